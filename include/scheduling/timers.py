"""Deadlines by key: set, moved, cleared, and taken when due, with lazy deletion."""

from __future__ import annotations

import heapq
from enum import IntEnum


def is_due(now: float, last: float, every_s: float) -> bool:
    """Whether what happens every so many seconds, and happened last at ``last``, is due. Also where the clock was set back since: to wait
    until it has caught up could take for ever."""
    return not 0.0 <= now - last < every_s


class Alarm(IntEnum):
    """What a timer is for; when two are due at the same time the lower goes first."""

    EXPIRY = 0  #: a request's deadline
    LEASE = 1  #: a lease's end
    RETRY = 2  #: the end of a backoff


Key = tuple[Alarm, str]


class Timers:
    """O(log n) to set and take, O(1) to clear; memory stays within twice what is set."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._queued: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def set(self, alarm: Alarm, name: str, at: float) -> None:
        """Moving a timer later costs nothing now: its heap entry is moved when it comes up."""
        key = (alarm, name)
        self._due[key] = at
        if self._queued.get(key, float("inf")) > at:
            self._push(key, at)

    def clear(self, alarm: Alarm, name: str) -> None:
        self._due.pop((alarm, name), None)
        if len(self._heap) > 2 * len(self._due) + 64:
            self._compact()

    def take(self, now: float) -> list[Key]:
        """The keys that are due, earliest first; they are set no more."""
        taken: list[Key] = []
        while self._heap and self._heap[0][0] <= now:
            key = self._pop()
            at = self._due.get(key)
            if at is None:
                continue
            if at > now:
                self._push(key, at)
                continue
            del self._due[key]
            taken.append(key)
        return taken

    def next_at(self) -> float | None:
        """When :meth:`take` is worth calling next; may be early, never late."""
        return self._heap[0][0] if self._heap else None

    def _push(self, key: Key, at: float) -> None:
        self._queued[key] = at
        heapq.heappush(self._heap, (at, key))

    def _pop(self) -> Key:
        at, key = heapq.heappop(self._heap)
        if self._queued.get(key) == at:
            del self._queued[key]
        return key

    def _compact(self) -> None:
        self._queued = dict(self._due)
        self._heap = [(at, key) for key, at in self._due.items()]
        heapq.heapify(self._heap)
