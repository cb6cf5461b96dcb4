"""Every process of an installation is found and ended, however it tried to get away."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

from include.platform.processes import SERVICE_VARIABLE, end_processes, service_processes
from tests.support.waiting import wait_for

#: Ignores SIGTERM, has a child in a session of its own, and writes both pids.
STUBBORN = """
import os, pathlib, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
path = pathlib.Path(sys.argv[1])
path.with_suffix(".tmp").write_text(f"{os.getpid()} {child.pid}")
path.with_suffix(".tmp").rename(path)
threading.Event().wait()
"""


def start(home: Path, name: str, pids: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ATELIER_HOME": str(home), SERVICE_VARIABLE: name}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(STUBBORN), str(pids)], env=environment, start_new_session=True)
    wait_for(pids.is_file, 10, "the process is up")
    return process


def test_a_process_that_ignores_sigterm_and_its_detached_child_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start(home, "worker-0", tmp_path / "pids") as process:
        pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
        assert {found.pid for found in service_processes(home)} == pids
        assert end_processes(home, grace_s=0.2) == ["worker-0"]
        process.wait(10)
    wait_for(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids), 5, "both are gone")


def test_other_installations_and_other_services_live_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start(home, "worker-0", tmp_path / "a") as ours, start(tmp_path / "other", "worker-0", tmp_path / "b") as theirs:
        assert end_processes(home, ["gateway"], grace_s=0.2) == []
        assert end_processes(home, ["worker-0"], grace_s=0.2) == ["worker-0"]
        ours.wait(10)
        assert theirs.poll() is None
        assert end_processes(tmp_path / "other", grace_s=0.2) == ["worker-0"]


def test_nothing_to_end_is_fine(tmp_path: Path) -> None:
    assert end_processes(tmp_path) == []
