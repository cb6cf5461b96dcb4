"""From queued requests and workers' credit to leases."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any

from include.contracts.control import ModelRoute
from include.contracts.dispatch import BatchKey, Lease, ModelRef
from include.contracts.events import Lane, State
from include.routing.catalog import version_for
from include.scheduling.cell import Cell
from include.scheduling.fair_queue import Fits
from include.scheduling.fleet import Placing, Worker
from include.scheduling.records import Entry, LeaseRecord, Phase, Shape
from include.scheduling.store import Table
from include.scheduling.timers import Alarm

#: What a second of delay costs in device seconds: the high lane takes a dearer worker to start sooner, the low lane waits for a cheap one.
URGENCY = {Lane.HIGH: 10.0, Lane.NORMAL: 1.0, Lane.LOW: 0.1}


class Dispatcher:
    """Spends credit while there is any.

    The model version is chosen here and not at acceptance: a request that waited through a rollback renders on the version that people
    want now, and a retry leaves a version that was taken back. What a request was is kept from acceptance: size, steps, guidance.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def dispatch(self, now: float) -> None:
        cell = self._cell
        while cell.fleet.open_pools and (head := cell.lanes.next(cell.fleet.open_pools)) is not None:
            model = self._version(head, now)
            if model is None:
                continue
            if self._lingers(head, now):
                return
            picked = self._pick(head, model, now)
            if picked is None:
                continue  # whoever seemed to have room is silent; their pools are closed now
            worker, why = picked
            other = self._warm_instead(head, model, worker, now)
            if other is not None:
                head, model, why = other[0], other[1], f"{why.split(',')[0]}, warm for this, cold for {head.id}"
            stand_in = self._stand_in(head, model, worker, now)
            if stand_in is not None:
                model, why = stand_in[0], f"{why}; {stand_in[1]}"
            self._lease(head, model, worker, why, now)

    def _version(self, head: Entry, now: float) -> ModelRef | None:
        """What it renders on; None if it left its lane instead."""
        cell = self._cell
        if head.deadline < now + head.least_s:
            cell.expire(head, now)
            return None
        route = cell.catalog.route(head.shape[0])
        if route is None:
            cell.park(head)
            return None
        model = version_for(route, head.id)
        if model is not None and _is_on_trial(model, route) and not cell.fleet.serving(model.key, head.pools, now):
            return route.champion  # then the worker that suits the champion best is chosen
        return model

    def _lingers(self, head: Entry, now: float) -> bool:
        """Whether a lone request waits a little for company: never one of the high lane, and only while nobody else waits."""
        cell = self._cell
        return 0 <= now - head.queued_at < cell.catalog.policy.linger_s and head.lane is not Lane.HIGH and len(cell.lanes) == 1

    def _pick(self, head: Entry, model: ModelRef, now: float) -> tuple[Worker, str] | None:
        cell = self._cell
        placing = Placing(
            pools=head.pools, model=model.key, avoid=head.last_worker, predicted_s=head.predicted_s, urgency=URGENCY[head.lane]
        )
        return cell.fleet.pick(placing, cell.catalog.policy.pools, now)

    def _warm_instead(self, head: Entry, model: ModelRef, worker: Worker, now: float) -> tuple[Entry, ModelRef] | None:
        """Another tenant's head of the same lane whose model the worker has loaded, where it lacks the head's.

        Bounded: only among the next few, only where the other's turn would come within what loading the model costs, and a head is passed
        over only a few times.
        """
        cell, tuning = self._cell, self._cell.tuning
        if model.key in worker.warm or not worker.warm or head.passed_over >= tuning.affinity_passes:
            return None
        heads = cell.lanes[head.lane].heads(frozenset((worker.pool,)), tuning.affinity_heads)
        for tag, other in heads:
            if tag > heads[0][0] + tuning.model_switch_s:
                break
            route = cell.catalog.route(other.shape[0])
            version = None if route is None else version_for(route, other.id)
            if version is None or version.key not in worker.warm or other.deadline < now + other.least_s:
                continue
            head.passed_over += 1
            return other, version
        return None

    def _stand_in(self, head: Entry, model: ModelRef, worker: Worker, now: float) -> tuple[ModelRef, str] | None:
        """The version before, where the worker refuses the new one; or for a while, where it has that one loaded and nobody the new one.

        So a new champion costs nobody the time that it takes to load, and one that can't be served costs nobody his image. One
        that is loaded anywhere, as after a rollback, serves at once.
        """
        route = self._cell.catalog.route(head.shape[0])
        if route is not None and _is_on_trial(model, route):
            return self._instead_of_canary(model, route, worker)
        previous = None if route is None else route.previous
        if route is None or previous is None or model.key in worker.warm or previous.key in worker.refused:
            return None
        if model.key in worker.refused:
            return previous, f"it refuses version {model.version}, so {previous.version} goes on"
        if previous.key not in worker.warm or now - route.at > self._cell.tuning.switch_patience_s:
            return None
        if self._cell.fleet.serving(model.key, head.pools, now):
            return None
        return previous, f"version {model.version} is loaded nowhere yet, so {previous.version} goes on"

    def _instead_of_canary(self, model: ModelRef, route: ModelRoute, worker: Worker) -> tuple[ModelRef, str] | None:
        """The champion, where the worker has not loaded the version on trial: a trial makes nobody wait, and fails nobody's request."""
        if model.key in worker.warm or route.champion is None:
            return None
        trouble = "refuses" if model.key in worker.refused else "has not loaded"
        return route.champion, f"it {trouble} version {model.version} on trial, so champion {route.champion.version} renders"

    def _lease(self, head: Entry, model: ModelRef, worker: Worker, why: str, now: float) -> None:
        route = self._cell.catalog.route(head.shape[0])
        canary = route.canary if route is not None else None
        fits = None if route is None or canary is None else lambda other: version_for(route, other.id) is model
        batch, bound = self._batch(head, model, worker, fits, now)
        lease = self._record(batch, model, worker, now)
        tasks = tuple(entry.task for entry in batch if entry.task is not None)
        key, key_text = _batch_key(model.key, head.shape)
        lease_s = self._cell.catalog.policy.lease_s
        self._cell.emit(
            Lease.trusted(
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
                lane=head.lane,
                tasks=tasks,
            )
        )
        decision = {"lease_id": lease.id, "why_worker": why, "batch_key": key_text, "batch_size": len(batch), "batch_bound": bound}
        if canary is not None and model is canary.challenger:
            decision["canary_share"] = canary.share
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

    def _batch(self, head: Entry, model: ModelRef, worker: Worker, fits: Fits | None, now: float) -> tuple[list[Entry], str]:
        """The head and what may render with it: its own lane first, then what waits longest in the others. And what bounded it.

        :param fits: whether another request is to render on the version; None where all of the model's are, as there is no canary
        """
        cell, lanes, batch = self._cell, self._cell.lanes, [head]
        at_most, bound = self._size_limit(head, model, worker)
        budget_s = cell.catalog.policy.batch_s - head.predicted_s
        self._serve(head, now, in_turn=True)
        while len(batch) < at_most:
            found = lanes.alike(head.shape, head.lane, worker.pool, budget_s, cell.catalog.policy.batch_s, fits)
            if found is None:
                return batch, "nothing else compatible waits" if budget_s > head.predicted_s else "cost budget"
            if found.deadline < now + found.least_s:
                cell.expire(found, now)
                continue
            budget_s -= found.predicted_s
            self._serve(found, now, in_turn=False)
            batch.append(found)
        return batch, bound

    def _size_limit(self, head: Entry, model: ModelRef, worker: Worker) -> tuple[int, str]:
        if head.alone:
            return 1, "its last attempt renders alone"
        if worker.max_batch == 1:
            return 1, "max_batch"
        worth = self._cell.learned.batches.cap((model.key, head.shape, worker.pool), worker.max_batch)
        return worth, "max_batch" if worth == worker.max_batch else "learned: a larger one was not cheaper"

    def _serve(self, entry: Entry, now: float, *, in_turn: bool) -> None:
        cell = self._cell
        cell.lanes.serve(entry, in_turn=in_turn)
        learned, waited_s = cell.learned, max(0.0, now - entry.queued_at)  # the clock may have been set back meanwhile
        learned.drain.served(entry.lane, entry.predicted_s, now)
        if not cell.lanes[entry.lane]:
            learned.drain.waiting(entry.lane, False, now)
        learned.shares.observe(entry.lane, waited_s, now, entry.predicted_s)
        if entry.estimate is not None:
            learned.waits.settle(entry.lane, entry.estimate, waited_s)
        if cell.quotas.started(entry):
            cell.lanes.pause(entry.tenant)

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
            size=len(batch),
            predicted_s=sum(entry.predicted_s for entry in batch),
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


def _is_on_trial(model: ModelRef, route: ModelRoute) -> bool:
    return route.canary is not None and model is route.canary.challenger


def _digest(content: list[str]) -> str:
    return "lease-" + sha256("\n".join(content).encode()).hexdigest()[:24]


@lru_cache(1024)
def _batch_key(model: str, shape: Shape) -> tuple[BatchKey, str]:
    """The key, and its text for the trace."""
    _, width, height, steps, guided, variant = shape
    key = BatchKey(model=model, width=width, height=height, steps=steps, guided=guided, variant=variant)
    return key, str(key)
