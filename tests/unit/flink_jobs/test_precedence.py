"""The kernel is asked in a process of its own, so that this one stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flink_jobs.precedence import NICENESS
from include.config import PROJECT_ROOT

TAKE = """
import os, sys, threading
from flink_jobs.precedence import take_precedence
if sys.argv[1] == "refused":
    def refuse(*_): raise PermissionError("no")
    os.setpriority = refuse
other, ready, done = [], threading.Event(), threading.Event()
def wait():
    other.append(threading.get_native_id())
    ready.set()
    done.wait()
thread = threading.Thread(target=wait, daemon=True)
thread.start()
ready.wait()
take_precedence()
print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), os.getpriority(os.PRIO_PROCESS, other[0]))
done.set()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")


def niceness(how: str) -> tuple[int, ...]:
    """Of the thread that took precedence, and of another one of its process."""
    command = [sys.executable, "-c", TAKE, how]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def test_one_thread_goes_before_its_neighbours() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, ours - 1)
    except PermissionError:
        pytest.skip("takes CAP_SYS_NICE")
    os.setpriority(os.PRIO_PROCESS, 0, ours)
    assert niceness("allowed") == (NICENESS, ours)


def test_where_the_system_refuses_everything_stays_as_it_is() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness("refused") == (ours, ours)
