"""The cell's workers and their credit: who has room, who is warm, who is silent, and which of them gets a micro-batch."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from include.contracts.policy import PoolRule
from include.contracts.workers import Credit, Hello, WorkerMessage
from include.scheduling.records import LeaseRecord, Pools

#: By whether it holds a lease and whether it has the model loaded.
_WHY = {
    (False, True): "idle, warm",
    (False, False): "idle, cold",
    (True, True): "has room, warm",
    (True, False): "has room, cold",
}


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
    refused: frozenset[str] = frozenset()  #: versions that it tried and won't serve
    leases: dict[str, LeaseRecord] = field(default_factory=dict)
    foreign: int = 0  #: leases it reports that we don't know

    @property
    def free(self) -> int:
        """Credit in micro-batches, never below 0."""
        return max(0, self.slots - len(self.leases) - self.foreign)

    def busy_for(self, now: float) -> float:
        """Device seconds until it is through with what it holds, as predicted; a lease that has not begun takes all of its own."""
        return sum(max(0.0, lease.predicted_s - (now - lease.started_at if lease.started else 0.0)) for lease in self.leases.values())


@dataclass(slots=True, kw_only=True)
class Placing:
    """What decides between workers for one micro-batch."""

    pools: Pools
    model: str  #: name/version
    avoid: str  #: the worker of its last attempt
    predicted_s: float
    urgency: float  #: what a second of delay costs in device seconds at price 1


@dataclass(slots=True)
class _Room:
    """One pool's workers with room, longest without work first."""

    idle: OrderedDict[str, Worker] = field(default_factory=OrderedDict)
    busy: OrderedDict[str, Worker] = field(default_factory=OrderedDict)

    def __bool__(self) -> bool:
        return bool(self.idle or self.busy)


class Fleet:
    """Workers by id, with those that have room at hand by pool."""

    def __init__(self, *, silent_after_s: float, lookahead: int, switch_s: float = 0.0) -> None:
        self._silent_after_s = silent_after_s
        self._lookahead = lookahead
        self._switch_s = switch_s
        self._workers: dict[str, Worker] = {}
        self._rooms: dict[str, _Room] = {}
        self.open_pools: Pools = frozenset()  #: pools of which some worker has room

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> Worker | None:
        return self._workers.get(worker_id)

    def live(self, now: float) -> int:
        """Workers heard lately that take work."""
        return sum(1 for worker in self._workers.values() if worker.slots and self._is_live(worker, now))

    def admit(self, message: WorkerMessage, now: float) -> Worker:
        """A new worker, or a new incarnation of a known one, without credit yet."""
        old = self._workers.get(message.worker_id)
        if old is not None:
            self._unfile(old)
        worker = Worker(id=message.worker_id, incarnation=message.incarnation, pool=message.pool, heard_at=now)
        self._workers[worker.id] = worker
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
        worker.refused = frozenset(message.refused_models) if isinstance(message, Credit) else frozenset()
        self.settle(worker)

    def settle(self, worker: Worker) -> None:
        """File the worker where its credit and load say; to be called whenever either changed."""
        if worker.slots <= len(worker.leases) + worker.foreign:
            self._unfile(worker)
            return
        room = self._rooms.get(worker.pool)
        if room is None:
            room = self._rooms[worker.pool] = _Room()
        here, there = (room.busy, room.idle) if worker.leases else (room.idle, room.busy)
        there.pop(worker.id, None)
        here[worker.id] = worker
        if worker.pool not in self.open_pools:
            self.open_pools |= {worker.pool}

    def pick(self, placing: Placing, rules: Mapping[str, PoolRule], now: float) -> tuple[Worker, str] | None:
        """The worker for a micro-batch and why it.

        Never one that refuses the version, nor the last attempt's worker, where another has room; else the cheapest, where a worker costs
        its pool's price for the device seconds, and the urgency of the lane for each second until it can start: what it holds already, and
        loading the model.
        None, with the silent pools closed, if nobody who lives has room.
        """
        candidates = self._candidates(placing.pools, now)
        if len(candidates) > 1:
            candidates.sort(
                key=lambda worker: (placing.model in worker.refused, worker.id == placing.avoid, self._cost(worker, placing, rules, now))
            )
        elif not candidates:
            return None
        worker = candidates[0]
        why = _WHY[bool(worker.leases), placing.model in worker.warm]
        price = rules[worker.pool].price if worker.pool in rules else 1.0
        return worker, why if price == 1 else f"{why}, price {price:g}"

    def serving(self, model: str, pools: Pools, now: float) -> bool:
        """Whether a live worker of the pools has that version loaded."""
        return any(model in worker.warm for worker in self._live_of(pools, now))

    def willing(self, model: str, pools: Pools, now: float) -> bool:
        """Whether a live worker of the pools does not refuse that version."""
        return any(model not in worker.refused for worker in self._live_of(pools, now))

    def _live_of(self, pools: Pools, now: float) -> Iterator[Worker]:
        return (worker for worker in self._workers.values() if worker.slots and worker.pool in pools and self._is_live(worker, now))

    def forget(self, silent_s: float, now: float) -> list[Worker]:
        """Drop workers that hold nothing and were not heard for ``silent_s``; returns them."""
        gone = [worker for worker in self._workers.values() if not worker.leases and now - worker.heard_at > silent_s]
        for worker in gone:
            del self._workers[worker.id]
            self._unfile(worker)
        return gone

    def _cost(self, worker: Worker, placing: Placing, rules: Mapping[str, PoolRule], now: float) -> float:
        delay = worker.busy_for(now) if worker.leases else 0.0
        if placing.model not in worker.warm:
            delay += self._switch_s
        # An idle worker goes before one that is about to be idle, whatever the prediction of that is worth.
        price = rules[worker.pool].price if worker.pool in rules else 1.0
        return placing.urgency * delay + price * placing.predicted_s + (1e-6 if worker.leases else 0.0)

    def _unfile(self, worker: Worker) -> None:
        room = self._rooms.get(worker.pool)
        if room is not None:
            room.idle.pop(worker.id, None)
            room.busy.pop(worker.id, None)
            self._close_if_empty(worker.pool, room)

    def _close_if_empty(self, pool: str, room: _Room) -> None:
        if not room and pool in self.open_pools:
            self.open_pools -= {pool}

    def _is_live(self, worker: Worker, now: float) -> bool:
        return now - worker.heard_at <= self._silent_after_s

    def _candidates(self, pools: Pools, now: float) -> list[Worker]:
        """The first few with room of each pool, idle and busy."""
        found: list[Worker] = []
        for pool in sorted(pools & self.open_pools):
            room = self._rooms[pool]
            if room.idle:
                found += self._first_live(room.idle, now)
            if room.busy:
                found += self._first_live(room.busy, now)
            if not found:
                self._close_if_empty(pool, room)
        return found

    def _first_live(self, group: OrderedDict[str, Worker], now: float) -> list[Worker]:
        """The first few; silent ones are taken out until they are heard again."""
        seen = list(islice(group.values(), self._lookahead))
        since = now - self._silent_after_s
        silent = [worker for worker in seen if worker.heard_at < since]
        while silent:
            for worker in silent:
                del group[worker.id]
            seen = list(islice(group.values(), self._lookahead))
            silent = [worker for worker in seen if worker.heard_at < since]
        return seen


def encode_worker(worker: Worker) -> str:
    return json.dumps([worker.incarnation, worker.pool])
