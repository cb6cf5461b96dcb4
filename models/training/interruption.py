"""Being told to stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self


class Interruption:
    """Becomes true once the process is told to stop, so that a step is never cut in the middle."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name}: stopping after this step", flush=True)
        self.requested = True
