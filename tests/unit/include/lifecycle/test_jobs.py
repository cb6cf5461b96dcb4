"""Detached jobs: started once, joined by whoever comes later, stopped as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from include.config import PROJECT_ROOT
from include.lifecycle import jobs
from include.lifecycle.jobs import JobState
from tests.support.waiting import wait_for

ENDLESS = [sys.executable, "-u", "-c", "import os, signal; print('pid', os.getpid()); signal.pause()"]


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


def command_pid(directory: Path) -> int:
    line = wait_for(lambda: next((line for line in jobs.tail(directory) if line.startswith("pid ")), ""), 20, "the job's first line")
    return int(line.split()[1])


def runner_pid(directory: Path) -> int:
    return int(json.loads((directory / "runner.json").read_text())["pid"])


def ended(directory: Path) -> JobState:
    wait_for(lambda: jobs.state(directory) is not JobState.RUNNING, 20, "the job to end")
    return jobs.state(directory)


def test_a_job_hands_out_its_lines_and_ends_well(tmp_path: Path) -> None:
    lines: list[str] = []
    assert jobs.submit(tmp_path, python("import os; print('one'); print(os.environ['WORD'])"), {"WORD": "two"})
    jobs.follow(tmp_path, lines.append, poll_s=0.05)
    assert lines == ["one", "two"]
    assert jobs.state(tmp_path) is JobState.SUCCEEDED


def test_a_line_that_is_written_in_pieces_is_handed_out_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "job.log").write_bytes(b"first\nsec")
    offset = jobs._hand_out(tmp_path / "job.log", 0, lines.append, flush=False)
    assert lines == ["first"]
    (tmp_path / "job.log").write_bytes(b"first\nsecond\n")
    jobs._hand_out(tmp_path / "job.log", offset, lines.append, flush=False)
    assert lines == ["first", "second"]


def test_a_failed_job_says_so_with_its_exit_code_and_its_last_lines(tmp_path: Path) -> None:
    jobs.submit(tmp_path, python("print('the reason'); raise SystemExit(7)"))
    with pytest.raises(jobs.JobFailedError, match=r"exit code 7[\s\S]*the reason"):
        jobs.follow(tmp_path, lambda line: None, poll_s=0.05)
    assert jobs.exit_code(tmp_path) == 7
    assert jobs.state(tmp_path) is JobState.FAILED


def test_a_directory_without_a_job_says_so(tmp_path: Path) -> None:
    assert jobs.state(tmp_path) is JobState.ABSENT
    jobs.stop(tmp_path)


def test_a_running_job_is_joined_not_started_again(tmp_path: Path) -> None:
    assert jobs.submit(tmp_path, ENDLESS)
    first = command_pid(tmp_path)
    assert not jobs.submit(tmp_path, ENDLESS)
    assert [line for line in jobs.tail(tmp_path) if line.startswith("pid ")] == [f"pid {first}"]
    jobs.stop(tmp_path)
    assert ended(tmp_path) is JobState.FAILED
    assert jobs.exit_code(tmp_path) == -signal.SIGTERM


def test_a_job_lives_in_a_session_of_its_own(tmp_path: Path) -> None:
    jobs.submit(tmp_path, ENDLESS)
    pid = command_pid(tmp_path)
    assert os.getsid(pid) == os.getpgid(pid) == runner_pid(tmp_path) != os.getsid(0)
    jobs.stop(tmp_path)
    ended(tmp_path)


def test_a_job_does_not_hold_the_output_of_who_started_it(tmp_path: Path) -> None:
    start = "import sys; from pathlib import Path; from include.lifecycle.jobs import submit; submit(Path(sys.argv[1]), sys.argv[2:])"
    # Returns before its time only where nobody else has the other end of the pipes.
    subprocess.run([*python(start), str(tmp_path), *ENDLESS], cwd=PROJECT_ROOT, capture_output=True, timeout=30, check=True)
    assert jobs.state(tmp_path) is JobState.RUNNING
    jobs.stop(tmp_path)
    assert ended(tmp_path) is JobState.FAILED


def test_a_killed_command_leaves_the_signal_as_its_exit_code_and_can_be_started_again(tmp_path: Path) -> None:
    jobs.submit(tmp_path, ENDLESS)
    os.kill(command_pid(tmp_path), signal.SIGKILL)
    assert ended(tmp_path) is JobState.FAILED
    assert jobs.exit_code(tmp_path) == -signal.SIGKILL
    assert jobs.submit(tmp_path, python("print('again')"))
    assert ended(tmp_path) is JobState.SUCCEEDED


def test_without_its_runner_the_command_still_counts_as_running_and_can_be_stopped(tmp_path: Path) -> None:
    jobs.submit(tmp_path, ENDLESS)
    pid = command_pid(tmp_path)
    os.kill(runner_pid(tmp_path), signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(runner_pid(tmp_path)) or psutil.Process(runner_pid(tmp_path)).status() == "zombie", 10)
    assert jobs.state(tmp_path) is JobState.RUNNING
    assert not jobs.submit(tmp_path, ENDLESS)
    jobs.stop(tmp_path)
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 10, "the command to end")
    assert ended(tmp_path) is JobState.LOST
