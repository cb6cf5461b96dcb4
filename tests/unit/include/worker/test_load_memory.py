"""A load takes the memory of the weights once: their files are mapped, not read into a second copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from include.config import PROJECT_ROOT
from tests.support.tiny_pipeline import write_tiny_pipeline

MEASURE = """
import json, resource, sys
import psutil, torch
torch.set_num_threads(1)
from pathlib import Path
from include.worker.memory import memory_bytes
from include.worker.pipeline import load_torch

small, large = map(Path, sys.argv[1:])
load_torch(small, "cpu")
before, peak_before = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
pipeline = load_torch(large, "cpu")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"weights": memory_bytes(pipeline), "grown": max(peak, peak_before) - before, "slack": peak_before - before}))
"""


def test_the_weights_are_in_memory_once(tmp_path: Path) -> None:
    small = write_tiny_pipeline(tmp_path / "small")
    large = write_tiny_pipeline(tmp_path / "large", outer_dim=512, inner_dim=1024, inner_depth=4)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["weights"] > 100e6, "large enough to tell it from everything else"
    assert found["grown"] < 1.4 * found["weights"] + found["slack"], found
