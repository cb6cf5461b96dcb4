"""Work done ahead of its need, which leaves most of the time to the renders that somebody waits for."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

REST = 1.0  #: seconds of rest for a second of work: half of the time goes to it at most
NICE = 10
_LOOK_S = 0.05


def never() -> bool:
    return False


class Unhurried:
    """One piece of such work. It asks :meth:`go_on` before each of its calls; once somebody waits for it, it rests no more.

    :param busy: whether a render is under way
    """

    def __init__(self, busy: Callable[[], bool] = never, rest: float = REST, clock: Callable[[], float] = time.perf_counter) -> None:
        self.busy = busy
        self.rest = rest
        self.clock = clock
        self._awaited = threading.Event()
        self._went_on_at: float | None = None

    def hurry(self) -> None:
        """Somebody waits for it."""
        self._awaited.set()

    @property
    def awaited(self) -> bool:
        return self._awaited.is_set()

    def go_on(self) -> bool:
        """Returns after a rest in proportion to the call that was made since the last time, or as soon as no render is under way.
        False where somebody waits: then only what has to be done is to be done."""
        if self._went_on_at is not None:
            self._rest_until(self.clock() + self.rest * (self.clock() - self._went_on_at))
        self._went_on_at = self.clock()
        return not self.awaited

    def _rest_until(self, end: float) -> None:
        while self.busy() and (left := end - self.clock()) > 0 and not self._awaited.wait(min(left, _LOOK_S)):
            pass


def at_low_priority(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``call`` returns or raises, run at niceness 10 where the system has one for each thread.

    In a thread of its own, for only the superuser may raise a thread's priority again. Not for what starts threads that stay, as loading
    a model on some backends does: they inherit the niceness.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            _step_back()
            outcome.set_result(call(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    # Not in an executor: the process would not end before its thread does, however long a download takes.
    threading.Thread(target=run, name="low-priority", daemon=True).start()
    return outcome.result()


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere the niceness is the process's
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
