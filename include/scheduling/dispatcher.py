"""From queued requests and workers' credit to leases."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any

from include.contracts.control import ModelRoute
from include.contracts.dispatch import BatchKey, Lease, ModelRef
from include.contracts.events import Lane, State
from include.scheduling.cell import Cell
from include.scheduling.fleet import Worker
from include.scheduling.records import Entry, LeaseRecord, Phase, Shape
from include.scheduling.store import Table
from include.scheduling.timers import Alarm


class Dispatcher:
    """Spends credit while there is any.

    The model version is chosen here and not at acceptance: a request that waited through a rollback renders on the version that people
    want now, and a retry leaves a version that was taken back. What a request was is kept from acceptance: size, steps, guidance.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def dispatch(self, now: float) -> None:
        cell = self._cell
        while cell.fleet.has_room() and (lane := cell.lanes.next()) is not None:
            head = cell.lanes[lane].head()
            if head.deadline <= now:
                cell.expire(head, now)
                continue
            route = cell.catalog.route(head.shape[0])
            if route is None or route.champion is None:
                cell.park(head)
                continue
            picked = cell.fleet.pick(route.champion.key, head.last_worker, now)
            if picked is None:
                return
            self._lease(head, lane, route, picked, now)

    def _lease(self, head: Entry, lane: Lane, route: ModelRoute, picked: tuple[Worker, str], now: float) -> None:
        worker, why = picked
        batch = self._batch(head, lane, 1 if head.alone else worker.max_batch, now)
        model = route.champion
        assert model is not None
        lease = self._record(batch, model, worker, now)
        tasks = tuple(entry.task for entry in batch if entry.task is not None)
        key = _batch_key(model.key, head.shape)
        lease_s = self._cell.catalog.policy.lease_s
        self._cell.emit(
            Lease(
                lease_id=lease.id,
                cell=self._cell.name,
                pool=worker.pool,
                worker_id=worker.id,
                incarnation=worker.incarnation,
                attempt=max(entry.dispatches for entry in batch),
                issued_at=now,
                expires_at=lease.expires_at,
                lease_s=lease_s,
                model=model,
                batch_key=key,
                tasks=tasks,
            )
        )
        decision = {"lease_id": lease.id, "why_worker": why, "batch_key": str(key), "batch_size": len(batch)}
        decision["batch_bound"] = _bound(head, len(batch), worker)
        for entry in batch:
            self._announce(entry, batch, lease, decision, now)

    def _announce(self, entry: Entry, batch: list[Entry], lease: LeaseRecord, decision: dict[str, Any], now: float) -> None:
        """The trace names a tenant's own requests only; of others in the micro-batch it tells the number."""
        mine = [other.id for other in batch if other is not entry and other.tenant == entry.tenant]
        self._cell.announce(
            entry,
            State.PROCESSING,
            now,
            worker_id=lease.worker_id,
            pool=lease.pool,
            model_version=lease.model_version,
            waited_s=max(0.0, now - entry.accepted_at),
            trace={**decision, "shared_with": mine[:16]},
        )

    def _batch(self, head: Entry, lane: Lane, at_most: int, now: float) -> list[Entry]:
        """The head and what may render with it: its own lane first, then what waits longest in the others."""
        lanes, batch = self._cell.lanes, [head]
        lanes.serve(head, in_turn=True)
        while len(batch) < at_most and (found := lanes.alike(head.shape, lane)) is not None:
            if found.deadline <= now:
                self._cell.expire(found, now)
                continue
            lanes.serve(found, in_turn=False)
            batch.append(found)
        return batch

    def _record(self, batch: list[Entry], model: ModelRef, worker: Worker, now: float) -> LeaseRecord:
        cell = self._cell
        for entry in batch:
            entry.dispatches += 1
            entry.phase, entry.dispatched_at, entry.progress_at = Phase.LEASED, now, now
            cell.stats.dispatches[entry.lane] += 1
        lease = LeaseRecord(
            id=self._lease_id(batch, model, worker, now),
            worker_id=worker.id,
            incarnation=worker.incarnation,
            pool=worker.pool,
            model_version=model.version,
            issued_at=now,
            expires_at=now + cell.catalog.policy.lease_s,
            entries={entry.id: entry for entry in batch},
        )
        for entry in batch:
            entry.lease = lease
        cell.leases[lease.id] = lease
        cell.store.put(Table.LEASES, lease.id, lease.encode())
        cell.timers.set(Alarm.LEASE, lease.id, lease.expires_at)
        worker.leases[lease.id] = lease
        cell.fleet.settle(worker)
        return lease

    def _lease_id(self, batch: list[Entry], model: ModelRef, worker: Worker, now: float) -> str:
        """Unique a dispatch, since each dispatch counts up its requests; and the same again when a restored scheduler repeats a decision
        that was made after its checkpoint, so that the worker which has that lease already need not start anew. Unless it was
        told to stop: an ended lease's id is not given again."""
        content = [worker.id, worker.incarnation, model.key, *(f"{entry.id}:{entry.dispatches}" for entry in batch)]
        lease_id = _digest(content)
        return _digest([*content, repr(now)]) if lease_id in self._cell.ended else lease_id


def _digest(content: list[str]) -> str:
    return "lease-" + sha256("\n".join(content).encode()).hexdigest()[:24]


def _bound(head: Entry, size: int, worker: Worker) -> str:
    """What kept the micro-batch from being larger."""
    if head.alone:
        return "its last attempt renders alone"
    return "max_batch" if size >= worker.max_batch else "nothing else compatible waits"


@lru_cache(1024)
def _batch_key(model: str, shape: Shape) -> BatchKey:
    _, width, height, steps, guided = shape
    return BatchKey(model=model, width=width, height=height, steps=steps, guided=guided)
