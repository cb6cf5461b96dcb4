"""The leases that a worker holds: what waits, what runs, what was taken back, what was answered."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from include.contracts.dispatch import Lease, Revoke
from include.contracts.workers import Completed, Failed

REMEMBERED = 512  #: finished leases whose outcomes are kept


class Offer(StrEnum):
    ACCEPTED = "accepted"  #: it waits for its turn
    HELD = "held"  #: it waits or runs already
    ANSWERED = "answered"  #: it was finished before; say the outcome again
    CLOSED = "closed"  #: the worker drains


@dataclass
class Held:
    lease: Lease
    expires_at: float
    running: bool = False
    step: int = 0
    advanced_at: float = 0.0  #: when it started or last did a step
    revoked: set[str] = field(default_factory=set)
    outcomes: list[Completed | Failed] = field(default_factory=list)

    @property
    def request_ids(self) -> set[str]:
        return {task.request_id for task in self.lease.tasks}


class LeaseTable:
    """Shared by the thread that speaks with Kafka and the thread that renders.

    A lease's end is told from the router's clock, so hosts keep theirs within a few seconds of each other, as NTP does.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._lock = threading.Condition()
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._finished: OrderedDict[str, list[Completed | Failed]] = OrderedDict()
        self._closed = False

    def offer(self, lease: Lease) -> Offer:
        with self._lock:
            if lease.lease_id in self._finished:
                return Offer.ANSWERED
            if lease.lease_id in self._held:
                return Offer.HELD
            if self._closed:
                return Offer.CLOSED
            self._held[lease.lease_id] = Held(lease, lease.expires_at)
            self._lock.notify_all()
            return Offer.ACCEPTED

    def outcomes(self, lease_id: str) -> list[Completed | Failed]:
        """What a finished lease was answered with."""
        with self._lock:
            return list(self._finished.get(lease_id, ()))

    def wait(self) -> bool:
        """Blocks until a lease waits for its turn; False once the table is closed and none will."""
        with self._lock:
            while not self._closed and not self._waiting():
                self._lock.wait()
            return bool(self._waiting())

    def waiting(self) -> list[Lease]:
        """Those that have not begun, first come first."""
        with self._lock:
            return self._waiting()

    def start(self, lease_id: str) -> bool:
        """Whether it waited; it runs from now on."""
        with self._lock:
            held = self._held.get(lease_id)
            if held is None or held.running:
                return False
            held.running, held.advanced_at = True, self.clock()
            return True

    def revoke(self, revoke: Revoke) -> bool:
        """Whether a held lease was touched."""
        with self._lock:
            held = self._held.get(revoke.lease_id)
            if held is None:
                return False
            held.revoked |= set(revoke.request_ids) or held.request_ids
            if not held.running and held.revoked >= held.request_ids:
                del self._held[revoke.lease_id]
            return True

    def revoked(self, lease_id: str) -> set[str]:
        with self._lock:
            held = self._held.get(lease_id)
            return set(held.revoked) if held else set()

    def renew(self, lease_ids: Iterable[str], sent_at: float) -> None:
        """The router has, from ``sent_at`` on, reason to believe that these live. What had expired by then is not revived: a worker that
        was stopped may say that it goes on before it has looked at the clock."""
        with self._lock:
            for held in filter(None, map(self._held.get, lease_ids)):
                if sent_at <= held.expires_at:
                    held.expires_at = max(held.expires_at, sent_at + held.lease.lease_s)

    def expired(self, lease_id: str) -> bool:
        with self._lock:
            held = self._held.get(lease_id)
            return held is None or self.clock() > held.expires_at

    def advance(self, lease_id: str, step: int) -> None:
        with self._lock:
            if held := self._held.get(lease_id):
                held.step, held.advanced_at = step, self.clock()

    def record(self, outcome: Completed | Failed) -> None:
        """Remember what a request of a running lease came to."""
        with self._lock:
            if held := self._held.get(outcome.lease_id):
                held.outcomes.append(outcome)

    def finish(self, lease_id: str) -> None:
        """The lease is held no more; its outcomes stay known for a while."""
        with self._lock:
            if held := self._held.pop(lease_id, None):
                self._finished[lease_id] = held.outcomes
            while len(self._finished) > REMEMBERED:
                self._finished.popitem(last=False)

    def held(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._held)

    def running(self) -> list[Held]:
        """Copies of those that have begun, parked ones among them."""
        with self._lock:
            return [replace(held) for held in self._held.values() if held.running]

    def close(self) -> tuple[str, ...]:
        """Take no more; returns the waiting leases, which are held no more."""
        with self._lock:
            self._closed = True
            waiting = tuple(lease_id for lease_id, held in self._held.items() if not held.running)
            for lease_id in waiting:
                del self._held[lease_id]
            self._lock.notify_all()
            return waiting

    def _waiting(self) -> list[Lease]:
        return [held.lease for held in self._held.values() if not held.running]
