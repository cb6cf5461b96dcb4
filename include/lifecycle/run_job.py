"""The parent of a detached job: runs its command, forwards a request to stop, leaves the exit code behind.

Started by :func:`include.lifecycle.jobs.submit` as ``python -m include.lifecycle.run_job DIRECTORY LOCK_FD``. The open, locked file is
handed down to the command, so the lock is held for exactly as long as the runner or the command lives.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

STOP_GRACE_S = 20.0  #: how long a command may take to write a checkpoint after it was asked to stop


def main(directory: Path, lock: int) -> None:
    """Leaves its caller's session, so that the end of the task that started the job is not the end of the job."""
    runner = os.fork()
    if runner:
        write_json(directory / "runner.json", {"pid": runner})
        os._exit(0)
    os.setsid()
    code = _run(directory, lock)
    write_json(directory / "exit.json", {"code": code})


def write_json(path: Path, content: dict[str, object]) -> None:
    """Replaces the file as a whole, so that a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def _run(directory: Path, lock: int) -> int:
    command = json.loads((directory / "job.json").read_text())["command"]
    with (directory / "job.log").open("ab") as log:
        # Airflow waits a minute for whoever still holds the output of a task that was killed.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,))

    def stop(_number: int, _frame: FrameType | None) -> None:
        process.terminate()
        signal.setitimer(signal.ITIMER_REAL, STOP_GRACE_S)

    def kill(_number: int, _frame: FrameType | None) -> None:
        process.kill()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, kill)
    return process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
