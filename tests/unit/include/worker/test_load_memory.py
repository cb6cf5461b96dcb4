"""A load takes the memory of the weights once: their files are mapped, not read into a second copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from include.config import PROJECT_ROOT
from tests.support.tiny_pipeline import write_tiny_pipeline

MEASURE = """
import json, sys
import torch
from pathlib import Path
from include.worker.memory import memory_bytes
from include.worker.pipeline import load_torch

def status(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

torch.set_num_threads(1)
small, large = map(Path, sys.argv[1:])
load_torch(small, "cpu")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
pipeline = load_torch(large, "cpu")
modules = [component for component in pipeline.components.values() if isinstance(component, torch.nn.Module)]
assert all(bool(weight.isfinite().all()) for module in modules for weight in module.parameters())  # mapped pages come in as they are read
print(json.dumps({"weights": memory_bytes(pipeline), "peak": status("VmHWM") - before}))
"""


def test_the_weights_are_in_memory_once(tmp_path: Path) -> None:
    small = write_tiny_pipeline(tmp_path / "small")
    large = write_tiny_pipeline(tmp_path / "large", outer_dim=256, inner_dim=640, inner_depth=4)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["weights"] > 40e6, "large enough to tell it from everything else"
    assert 0.5 * found["weights"] < found["peak"] < 1.5 * found["weights"], found
