"""Finding and ending every process of an installation, also when the supervisor that started them is gone.

Each service's environment carries its name and the installation's home, and children inherit it through any number of forks and new
sessions, so nothing has to be written down at start and a recycled process id can't be mistaken for one of ours.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

#: Marks a process as ours; together with ATELIER_HOME it tells which installation it belongs to.
SERVICE_VARIABLE = "ATELIER_SERVICE"


def _service_of(process: psutil.Process, home: Path) -> str | None:
    try:
        environment = process.environ()
    except (psutil.Error, OSError):  # ended meanwhile, or belongs to another user and is not ours
        return None
    return environment.get(SERVICE_VARIABLE) if environment.get("ATELIER_HOME") == str(home.resolve()) else None


def service_processes(home: Path, names: Iterable[str] | None = None) -> dict[psutil.Process, str]:
    """Each living process of the installation at ``home`` with its service's name; this process and its parents excepted."""
    wanted = None if names is None else set(names)
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {process: _service_of(process, home) for process in psutil.process_iter() if process.pid not in own}
    marked = {process: name for process, name in found.items() if name and (wanted is None or name in wanted)}
    # A child may have wiped its environment; then its parent tells.
    unmarked = {child: name for process, name in marked.items() for child in _children(process) if not found.get(child)}
    return marked | {child: name for child, name in unmarked.items() if child.pid not in own}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:  # it ended by itself, which is what we are after
            continue


def end_processes(home: Path, names: Iterable[str] | None = None, grace_s: float = 10.0) -> list[str]:
    """SIGTERM, then SIGKILL after ``grace_s``, until none is left; returns the names of the services that had one.

    Raises :class:`RuntimeError` naming the processes that survive even that.
    """
    found = service_processes(home, names)
    _signal(found, signal.SIGTERM)
    psutil.wait_procs(list(found), timeout=grace_s)
    # A process may have forked between the scan and the signal: scan again until a scan finds nothing.
    for _ in range(5):
        left = service_processes(home, names)
        if not left:
            return sorted(set(found.values()))
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(list(left), timeout=3)
    raise RuntimeError(f"still alive: {', '.join(f'{name} (pid {process.pid})' for process, name in left.items())}")
