"""How much is held back before the scheduler, over time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from include.demo.router_offsets import RouterOffsets

EVERY_S = 0.5


class Gauge:
    """Looks now and then while its body runs.

    :param held_back: counts the batch requests that were sent and are in no lane yet, in Kafka or in the router's own buffers
    """

    def __init__(self, offsets: RouterOffsets, held_back: Callable[[], int]) -> None:
        self.lag: int | None = None  #: those in Kafka by the router's committed offsets; None where the broker does not say
        self.peak_lag: int | None = None
        self.peak_held_back = 0
        self._offsets = offsets
        self._held_back = held_back
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-gauge", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self.peak_held_back = max(self.peak_held_back, self._held_back())
            self.lag = self._offsets.lag()
            if self.lag is not None:
                self.peak_lag = max(self.lag, self.peak_lag or 0)
