"""Waiting on a condition instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 30.0, message: str = "", interval: float = 0.1) -> T:
    """The first true value of ``condition``, asked every ``interval`` seconds.

    A condition that raises :class:`AssertionError` or :class:`OSError` counts as not met yet. After ``timeout`` seconds an AssertionError
    says what was waited for and what the last answer was.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or 'condition'}: not within {timeout:g} s; last: {last!r}")
        pause.wait(interval)
