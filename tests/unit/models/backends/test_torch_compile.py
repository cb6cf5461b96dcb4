"""torch.compile on a network small enough to be compiled in a test; in a process of its own, as a worker is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.config import PROJECT_ROOT
from models.backends.known import BACKENDS
from models.backends.torch_compile import CACHE_VARIABLE

COMPILED = BACKENDS["torch-compile"]


@pytest.mark.skipif(not COMPILED.availability("cpu").usable, reason=COMPILED.availability("cpu").detail)
def test_it_gives_what_eager_gives_and_what_it_compiled_is_found_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.models.backends.compiles_twice", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != CACHE_VARIABLE}
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first == {"ran": COMPILED.name, "failed": {}, "alike": True, "found": 0}, done.stderr[-3000:]
    assert second == first | {"found": 1}
    assert any((tmp_path / "inductor").iterdir())
