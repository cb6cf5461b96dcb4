"""How often an edge worker may call."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CALLERS = 10_000


class RateLimit:
    """A token bucket for each caller; those that called longest ago are forgotten first.

    :param rate: calls a second that are gained
    :param burst: calls that are saved up at most
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self.clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str) -> float:
        """0 where the call is within the limit, and counts; else the seconds after which one will be."""
        with self._lock:
            now = self.clock()
            level, at = self._buckets.pop(caller, (self.burst, now))
            level = min(self.burst, level + (now - at) * self.rate)
            wait_s = 0.0 if level >= 1 else (1 - level) / self.rate
            self._buckets[caller] = (level if wait_s else level - 1, now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
            return wait_s
