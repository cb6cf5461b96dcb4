"""Who goes first on a shared machine."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

#: Takes CAP_SYS_NICE; a step is about 1.25 times the share of a contended core.
NICENESS = -10


def take_precedence() -> None:
    """Lets the calling thread go before others on its cores, where the system allows that.

    All of a cell's routing is done in one thread. On cores that it shares with compilers, copies of checkpoints, a broker and rendering it
    is ready to run and waits for a third of the time, and so does every request; see docs/decisions/0012.
    """
    if sys.platform == "linux":  # elsewhere a thread's number may be another process's
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
