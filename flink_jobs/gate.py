"""How the scheduler holds back the source of batch requests: a gate in the memory that both steps share.

All Python steps of a job in thread mode run in one interpreter of one TaskManager, as long as they share a slot, and every step of the
router does. So the step before the scheduler can see whether the scheduler has room, without a message against the stream, which Flink
has no way to send. A TaskManager keeps its modules between jobs and between attempts of one; each attempt of the scheduler therefore
establishes a gate of its own. A gate whose scheduler is gone or silent is open: what then holds the source is Flink alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Requests that may be between the gate and the scheduler. The gate would let through what fits Flink's buffers, some thousand requests,
#: before the scheduler has seen the first of them.
WINDOW = 32
#: A closed gate is one that the scheduler called closed at most this many seconds ago. While anything waits it says so every 0.1 s.
STALE_S = 5.0


class BatchGate:
    """One scheduler's word on batch requests. Its methods are called from two threads: two by the scheduler, one by the step before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._open = True
        self._in_transit = 0
        self._heard_at = clock()

    def publish(self, is_open: bool) -> None:
        """What the scheduler has to say, after each thing that it did."""
        self._heard_at = self._clock()
        if is_open is not self._open:
            with self._condition:
                self._open = is_open
                self._condition.notify_all()

    def arrived(self) -> None:
        """The scheduler got a request. After a restore it also gets some that passed a gate of before."""
        with self._condition:
            self._in_transit = max(0, self._in_transit - 1)
            if self._in_transit == WINDOW // 2:
                self._condition.notify_all()

    def passes(self, patience_s: float) -> bool:
        """Let one request through as soon as there is room, at the latest after ``patience_s``; whether there was room."""
        with self._condition:
            has_room = self._condition.wait_for(self._has_room, patience_s)
            self._in_transit += 1
            return has_room

    def _has_room(self) -> bool:
        if self._clock() - self._heard_at > STALE_S:
            return True
        return self._open and self._in_transit < WINDOW


_gates: dict[str, BatchGate] = {}


def establish(name: str) -> BatchGate:
    """A new gate of that name in this process; whoever waits at its predecessor goes on."""
    predecessor, _gates[name] = _gates.get(name), BatchGate()
    if predecessor is not None:
        predecessor.publish(True)
    return _gates[name]


def gate_of(name: str) -> BatchGate | None:
    return _gates.get(name)


def retire(name: str, gate: BatchGate) -> None:
    """Its scheduler ends; a successor's gate of the same name stays."""
    gate.publish(True)
    if _gates.get(name) is gate:
        del _gates[name]
