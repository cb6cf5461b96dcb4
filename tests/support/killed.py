"""Runs a module as a program and kills it, as by ``kill -9``, right before one of its file system calls.

    python -m tests.support.killed EVENT WHERE NUMBER MODULE ARGUMENTS...

EVENT is the name of one of Python's audit events, such as ``os.remove``. They are counted from the first renaming on whose target holds
WHERE; the NUMBER-th is not reached.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any


def kill_before(event: str, where: str, number: int) -> None:
    seen, armed = 0, False

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, armed
        armed = armed or (name == "os.rename" and where in str(arguments[1]))
        if armed and name == event:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    event, where, number, module = sys.argv[1:5]
    sys.argv = [module, *sys.argv[5:]]
    kill_before(event, where, int(number))
    runpy.run_module(module, run_name="__main__")
