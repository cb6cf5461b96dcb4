"""Nothing of a render lies on the CPU while the weights lie elsewhere; a GPU isn't needed to see that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from include.config import PROJECT_ROOT
from include.platform.environment import ONE_THREAD
from tests.support.tiny_diffusers import FAMILIES


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """By family; in a process of its own, because torch learns of the device for as long as a process lives."""
    command = [sys.executable, "-m", "tests.unit.models.pipelines.renders_elsewhere"]
    environment = {**os.environ, **ONE_THREAD}  # on a busy machine, two threads of tiny renders wait for each other most of the time
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("family", ["atelier", *sorted(FAMILIES)])
def test_renders_on_another_device_give_the_same_images(outcomes: dict[str, Any], family: str) -> None:
    assert outcomes[family] == [0, 0], outcomes[family]
