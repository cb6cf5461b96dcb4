"""Long jobs that outlive the task that started them and are never started twice.

A job is a directory: ``job.json`` (command), ``job.lock`` (held while it runs), ``job.log`` (its output), ``exit.json`` (how it ended).
Whoever knows the directory can join the job: read on in its log, ask how it stands, stop it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from include.config import PROJECT_ROOT
from include.lifecycle.run_job import write_json


class JobState(StrEnum):
    ABSENT = "absent"  #: never started here
    RUNNING = "running"  #: its lock is held
    SUCCEEDED = "succeeded"  #: exit code 0
    FAILED = "failed"  #: another exit code
    LOST = "lost"  #: killed without leaving an exit code


class JobFailedError(RuntimeError):
    """A job ended otherwise than with exit code 0; the message has the end of its log."""


def submit(directory: Path, command: Sequence[str], env: Mapping[str, str] | None = None) -> bool:
    """Starts the command detached, in the project's root; False where the directory's job is running already and was left alone.

    :param env: added to this process's environment
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = _try_lock(directory)
    if lock is None:
        return False
    try:
        (directory / "exit.json").unlink(missing_ok=True)
        write_json(directory / "job.json", {"command": list(command)})
        runner = [sys.executable, "-m", "include.lifecycle.run_job", str(directory), str(lock)]
        subprocess.run(runner, cwd=PROJECT_ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, pass_fds=(lock,), check=True)
    finally:
        os.close(lock)
    return True


def state(directory: Path) -> JobState:
    """How the job stands; by its lock, not by a process id, which another process may have got since."""
    if not (directory / "job.json").exists():
        return JobState.ABSENT
    lock = _try_lock(directory)
    if lock is None:
        return JobState.RUNNING
    os.close(lock)
    code = exit_code(directory)
    if code is None:
        return JobState.LOST
    return JobState.SUCCEEDED if code == 0 else JobState.FAILED


def exit_code(directory: Path) -> int | None:
    """The command's exit code, negative for a signal; None where there is none yet."""
    path = directory / "exit.json"
    return json.loads(path.read_text())["code"] if path.exists() else None


def stop(directory: Path) -> None:
    """Asks the runner, the command and the command's children to end; the runner kills a command that doesn't heed it. Returns at once."""
    if state(directory) is not JobState.RUNNING:
        return
    runner = json.loads((directory / "runner.json").read_text())["pid"]
    # While the lock is held somebody of the runner's group lives, the runner or its command, so the number can't be another's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(runner, signal.SIGTERM)


def tail(directory: Path, lines: int = 20) -> list[str]:
    path = directory / "job.log"
    return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []


def follow(directory: Path, on_line: Callable[[str], None], *, skip_to_end: bool = False, poll_s: float = 0.5) -> None:
    """Hands each whole new line of the job's log to ``on_line`` until the job has ended.

    Raises :class:`JobFailedError` where it didn't succeed.
    """
    path = directory / "job.log"
    offset = path.stat().st_size if skip_to_end and path.exists() else 0
    while True:
        running = state(directory) is JobState.RUNNING
        offset = _hand_out(path, offset, on_line, flush=not running)
        if not running:
            break
        time.sleep(poll_s)
    ended = state(directory)
    if ended is not JobState.SUCCEEDED:
        raise JobFailedError(f"job {ended} with exit code {exit_code(directory)} in {directory}\n" + "\n".join(tail(directory)))


def _hand_out(path: Path, offset: int, on_line: Callable[[str], None], *, flush: bool) -> int:
    if not path.exists():
        return offset
    with path.open("rb") as log:
        log.seek(offset)
        data = log.read()
    whole = len(data) if flush else data.rfind(b"\n") + 1
    for line in data[:whole].decode(errors="replace").splitlines():
        on_line(line)
    return offset + whole


def _try_lock(directory: Path) -> int | None:
    """An inheritable descriptor of the locked file, or None where somebody holds the lock."""
    descriptor = os.open(directory / "job.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
