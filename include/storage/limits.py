"""How long a call over a network may take in all: a socket's timeout bounds each read, not how many there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

TOTAL_S = 60.0  #: of a call that moves little, its retries among them
SLOWEST = 256 * 1024  #: bytes a second; who moves fewer is taken to hang


def limit_for(size: int, total_s: float = TOTAL_S) -> float:
    """Seconds that a call which moves ``size`` bytes may take."""
    return total_s + size / SLOWEST


def started(call: Callable[[], T]) -> Future[T]:
    """``call`` in a thread of its own, which nobody has to wait for: it keeps no process from ending."""
    future: Future[T] = Future()

    def settle() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # whoever waits is told, of whatever kind it is
            future.set_exception(error)

    threading.Thread(target=settle, name="store-call", daemon=True).start()
    return future


def within(limit_s: float, call: Callable[[], T]) -> T:
    """What ``call`` gives. Raises :class:`TimeoutError` where it takes longer than ``limit_s``; it is left to itself then."""
    return started(call).result(limit_s)
