"""Which leases the edge workers of a pool hold: folded from the topics alone, so every replica and every restart comes to the same."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from include.contracts.dispatch import AnyDispatchMessage, Lease, ModelRef, RenderTask, Revoke
from include.contracts.workers import AnyWorkerMessage, Credit, Hello, RenderProgress, Started

T = TypeVar("T")

#: What is remembered at most. The oldest goes first: a worker holds a few leases, so it is one that is long over.
MAX_WORKERS, MAX_LEASES, MAX_REVOKES, MAX_HEARD = 10_000, 128, 256, 512


@dataclass
class Granted:
    """A lease of an edge worker."""

    offset: int
    lease: Lease
    over: bool = False  #: revoked whole, or void because its worker started anew


@dataclass
class _Worker:
    incarnation: str = ""  #: of the newest Hello, empty before one was seen
    hello_at: float = 0.0
    leases: OrderedDict[str, Granted] = field(default_factory=OrderedDict)
    revokes: deque[tuple[int, Revoke]] = field(default_factory=lambda: deque(maxlen=MAX_REVOKES))
    heard: OrderedDict[str, float] = field(default_factory=OrderedDict)  #: lease id → when its worker last spoke of it


class LeaseBook:
    """Of one pool. Safe to use from several threads; what is noted twice counts once.

    The two topics are read by threads of their own, so a worker's word about a lease may be read before the lease itself.
    """

    def __init__(self, pool: str, clock: Callable[[], float] = time.time) -> None:
        self.pool = pool
        self.clock = clock
        self._lock = threading.Lock()
        self._cluster = ""
        self._workers: OrderedDict[str, _Worker] = OrderedDict()

    def note_dispatch(self, cluster: str, offset: int, message: AnyDispatchMessage) -> None:
        with self._lock:
            if self._cluster not in ("", cluster):  # a broker that was set up anew counts its offsets from 0 again
                self._workers.clear()
            self._cluster = cluster
            worker = self._worker(message.worker_id)
            if isinstance(message, Lease):
                _remember(worker.leases, message.lease_id, worker.leases.get(message.lease_id) or Granted(offset, message), MAX_LEASES)
                return
            if all(known != offset for known, _ in worker.revokes):
                worker.revokes.append((offset, message))
            granted = worker.leases.get(message.lease_id)
            if granted is not None and not message.request_ids:
                granted.over = True

    def note_report(self, message: AnyWorkerMessage) -> None:
        """What a worker of the pool said on the topic ``workers``."""
        if message.pool != self.pool:
            return
        at = min(message.at, self.clock())
        with self._lock:
            worker = self._worker(message.worker_id)
            if isinstance(message, Hello) and at >= worker.hello_at:
                worker.incarnation, worker.hello_at = message.incarnation, at
            named: tuple[str, ...] = ()
            if isinstance(message, Started | RenderProgress):
                named = (message.lease_id,)
            elif isinstance(message, Credit):
                named = message.held[-MAX_LEASES:]
            for lease_id in named:
                _remember(worker.heard, lease_id, max(at, worker.heard.get(lease_id, 0.0)), MAX_HEARD)

    def dispatches(self, worker_id: str, incarnation: str, after: str) -> tuple[list[AnyDispatchMessage], str]:
        """What is still to be done and came after the cursor ``after``, oldest first, and the cursor behind it. An empty or foreign cursor
        means from the start."""
        with self._lock:
            last = self._last(after)
            worker = self._workers.get(worker_id, _Worker())
            known: list[tuple[int, AnyDispatchMessage]] = [(granted.offset, granted.lease) for granted in self._alive(worker, incarnation)]
            known += worker.revokes
            found = sorted((pair for pair in known if pair[0] > last), key=lambda pair: pair[0])
            return [message for _, message in found], f"{self._cluster}:{found[-1][0] if found else last}"

    def lease(self, worker_id: str, lease_id: str) -> Lease | None:
        """A lease that this worker has or had lately."""
        with self._lock:
            worker = self._workers.get(worker_id)
            granted = worker.leases.get(lease_id) if worker else None
            return granted.lease if granted else None

    def holder(self, lease_id: str) -> str | None:
        """The worker that has or had lately a lease of this id."""
        with self._lock:
            return next((worker_id for worker_id, worker in self._workers.items() if lease_id in worker.leases), None)

    def tasks(self, worker_id: str, incarnation: str) -> list[RenderTask]:
        """Of every lease that the worker's incarnation holds now."""
        with self._lock:
            worker = self._workers.get(worker_id, _Worker())
            return [task for granted in self._alive(worker, incarnation) for task in granted.lease.tasks]

    def models(self, worker_id: str, incarnation: str) -> list[ModelRef]:
        """Models and adapters of every lease that the worker's incarnation holds now."""
        with self._lock:
            leases = [granted.lease for granted in self._alive(self._workers.get(worker_id, _Worker()), incarnation)]
        return [lease.model for lease in leases] + [adapter.model for lease in leases for task in lease.tasks for adapter in task.adapters]

    def _alive(self, worker: _Worker, incarnation: str) -> Iterator[Granted]:
        if worker.incarnation and worker.incarnation != incarnation:
            return
        now = self.clock()
        for granted in worker.leases.values():
            lease = granted.lease
            expires_at = max(lease.expires_at, worker.heard.get(lease.lease_id, 0.0) + lease.lease_s)
            if lease.incarnation == incarnation and not granted.over and now <= expires_at:
                yield granted

    def _worker(self, worker_id: str) -> _Worker:
        _remember(self._workers, worker_id, self._workers.get(worker_id) or _Worker(), MAX_WORKERS)
        return self._workers[worker_id]

    def _last(self, cursor: str) -> int:
        cluster, _, offset = cursor.rpartition(":")
        return int(offset) if cluster == self._cluster and offset.isdecimal() else -1


def _remember(known: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > limit:
        known.popitem(last=False)
