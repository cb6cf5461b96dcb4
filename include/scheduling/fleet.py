"""The cell's workers and their credit: who has room, who is warm, who is silent."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice

from include.contracts.workers import Credit, Hello, WorkerMessage
from include.scheduling.records import LeaseRecord


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One worker's current incarnation. Its credit is its slots less the leases we know of and the foreign ones it reports."""

    id: str
    incarnation: str
    pool: str
    heard_at: float
    slots: int = 0  #: micro-batches it may hold; 0 until it said so itself since our start
    max_batch: int = 1
    warm: frozenset[str] = frozenset()
    leases: dict[str, LeaseRecord] = field(default_factory=dict)
    foreign: int = 0  #: leases it reports that we don't know

    @property
    def free(self) -> int:
        """Credit in micro-batches, never below 0."""
        return max(0, self.slots - len(self.leases) - self.foreign)


class Fleet:
    """Workers by id, with those that have room at hand: idle ones apart from busy ones, longest without work first."""

    def __init__(self, *, silent_after_s: float, lookahead: int) -> None:
        self._silent_after_s = silent_after_s
        self._lookahead = lookahead
        self._workers: dict[str, Worker] = {}
        self._idle: OrderedDict[str, Worker] = OrderedDict()
        self._busy: OrderedDict[str, Worker] = OrderedDict()

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> Worker | None:
        return self._workers.get(worker_id)

    def has_room(self) -> bool:
        return bool(self._idle or self._busy)

    def live(self, now: float) -> int:
        """Workers heard lately that take work."""
        return sum(1 for worker in self._workers.values() if worker.slots and self._is_live(worker, now))

    def admit(self, message: WorkerMessage, now: float) -> Worker:
        """A new worker, or a new incarnation of a known one, without credit yet."""
        worker = Worker(id=message.worker_id, incarnation=message.incarnation, pool=message.pool, heard_at=now)
        self._workers[worker.id] = worker
        self.settle(worker)
        return worker

    def restore(self, worker_id: str, text: str, now: float) -> Worker:
        """A worker as :func:`encode_worker` wrote it; it has no credit until it says what it holds."""
        incarnation, pool = json.loads(text)
        worker = self._workers[worker_id] = Worker(id=worker_id, incarnation=incarnation, pool=pool, heard_at=now)
        return worker

    def grant(self, worker: Worker, message: Hello | Credit) -> None:
        """Take over what the worker says it can hold."""
        worker.slots, worker.max_batch = message.slots, message.max_batch
        worker.warm = frozenset(message.warm_models)
        self.settle(worker)

    def settle(self, worker: Worker) -> None:
        """File the worker where its credit and load say; to be called whenever either changed."""
        if not worker.free:
            self._idle.pop(worker.id, None)
            self._busy.pop(worker.id, None)
            return
        here, there = (self._busy, self._idle) if worker.leases else (self._idle, self._busy)
        there.pop(worker.id, None)
        here[worker.id] = worker

    def pick(self, model: str, avoid: str, now: float) -> tuple[Worker, str] | None:
        """The worker for a micro-batch of ``model`` and why it: idle before busy, then warm, then anyone but ``avoid``."""
        for group, load in ((self._idle, "idle"), (self._busy, "has room")):
            seen = self._candidates(group, now)
            if not seen:
                continue
            best = min(seen, key=lambda worker: (worker.id == avoid, model not in worker.warm))
            if best.id == avoid and group is self._idle and (other := self._candidates(self._busy, now)):
                best, load = min(other, key=lambda worker: model not in worker.warm), "has room"
            return best, f"{load}, {'warm' if model in best.warm else 'cold'}"
        return None

    def forget(self, silent_s: float, now: float) -> list[Worker]:
        """Drop workers that hold nothing and were not heard for ``silent_s``; returns them."""
        gone = [worker for worker in self._workers.values() if not worker.leases and now - worker.heard_at > silent_s]
        for worker in gone:
            del self._workers[worker.id]
            self._idle.pop(worker.id, None)
            self._busy.pop(worker.id, None)
        return gone

    def _is_live(self, worker: Worker, now: float) -> bool:
        return now - worker.heard_at <= self._silent_after_s

    def _candidates(self, group: OrderedDict[str, Worker], now: float) -> list[Worker]:
        """The first few with room; silent ones are taken out until they are heard again."""
        seen = list(islice(group.values(), self._lookahead))
        silent = [worker for worker in seen if not self._is_live(worker, now)]
        while silent:
            for worker in silent:
                del group[worker.id]
            seen = list(islice(group.values(), self._lookahead))
            silent = [worker for worker in seen if not self._is_live(worker, now)]
        return seen


def encode_worker(worker: Worker) -> str:
    return json.dumps([worker.incarnation, worker.pool])
