"""Fake time: actions happen in the order of their times, and nothing waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Clock:
    """A heap of what is going to happen. Actions of equal times happen in the order in which they were planned."""

    def __init__(self, start: float) -> None:
        self.now = start  #: seconds since 1970
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan an action; one whose time is past happens now."""
        heapq.heappush(self._due, (max(when, self.now), next(self._order), action, arguments))

    def run(self, until: float) -> None:
        """Let everything happen that is due before ``until``; actions may plan further ones."""
        due, pop = self._due, heapq.heappop
        while due and due[0][0] < until:
            self.now, _, action, arguments = pop(due)
            action(*arguments)
        self.now = until
