from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.training.lock import OWNER, RunLock, RunTakenError

HOLD = """
import sys
from pathlib import Path
from models.training.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_trainer_is_told_who_has_the_run_and_gets_it_once_that_one_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(RunTakenError, match=f"being trained by process {first.pid}"), RunLock(tmp_path):
            pass
        first.kill()
    with RunLock(tmp_path) as lock:
        lock.check()


def test_a_holder_whose_lock_was_lost_is_told_before_it_writes(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        (tmp_path / OWNER).write_text(json.dumps({"token": "another", "pid": 1, "host": "elsewhere"}))
        with pytest.raises(RunTakenError, match="taken over by process 1 on elsewhere"):
            lock.check()


def test_one_process_can_train_a_directory_twice_in_turn(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLock(tmp_path):
            assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
