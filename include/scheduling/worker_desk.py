"""What workers say, and what follows from it for their leases."""

from __future__ import annotations

from include.contracts import topics
from include.contracts.dispatch import Revoke
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Progress, State
from include.contracts.objects import image_key, preview_key
from include.contracts.workers import (
    AnyWorkerMessage,
    Completed,
    Credit,
    Failed,
    Goodbye,
    Hello,
    RenderProgress,
    Started,
    WorkerMessage,
)
from include.routing.cost_model import Work
from include.scheduling.cell import Cell
from include.scheduling.fleet import Worker, encode_worker
from include.scheduling.records import Entry, LeaseRecord, Phase
from include.scheduling.store import Table
from include.scheduling.timers import Alarm, is_due

#: Caches that spare so much of the work that a completion tells nothing about its cost.
_SPARED = frozenset({"result", "near", "parked", "attempt"})
#: A worker that was silent this long and holds nothing is forgotten.
_FORGET_AFTER_S = 3600.0


class WorkerDesk:
    """Credit, leases and results of a cell's workers.

    **Which result counts.** The result of a request's current lease counts. A result of any other lease counts only while the request
    is back in its lane or between attempts: images depend on the task alone and are stored by conditional put, so the work that
    an expired lease or a restored checkpoint gave up is not done twice. Once another lease runs, or the request is over, a fenced
    worker's result no longer counts. Failures count from the current lease only. So a request has one terminal event.

    **Which incarnation counts.** The one of the last Hello; its predecessor's leases are void at once. A heartbeat of
    another incarnation is ignored, unless the current one has fallen silent: then its Hello was lost.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._learned_at = 0.0

    def take(self, message: AnyWorkerMessage, raw: str, now: float) -> None:
        if message.cell != self._cell.name:
            return
        if message.pool not in self._cell.pools:
            text = f"pool: this cell has no pool {message.pool}; it has {', '.join(sorted(self._cell.pools))}"
            self._cell.dead_letter(topics.WORKERS, raw, Reason(code=ReasonCode.INVALID_FIELD, field="pool", message=text), now)
            return
        if isinstance(message, Completed):
            self._completed(message, raw, now)
        elif isinstance(message, Failed):
            self._failed(message, now)
        worker = self._current(message, now)
        if worker is None:
            return
        worker.heard_at = now
        if isinstance(message, Completed):
            return  # most messages are one, and asking what else it may be takes as long as all of the above
        if isinstance(message, Hello):
            self._cell.fleet.grant(worker, message)
        elif isinstance(message, Credit):
            self._credit(worker, message, now)
        elif isinstance(message, Started | RenderProgress):
            self._progress(worker, message, now)
        elif isinstance(message, Goodbye):
            self._goodbye(worker, now)

    def lease_expired(self, lease_id: str, now: float) -> None:
        lease = self._cell.leases[lease_id]
        self._cell.revoke(lease)
        self._cell.ended.add(lease.id)
        words = f"worker {lease.worker_id} made no progress for the length of a lease"
        self._take_back(lease, Reason(code=ReasonCode.LEASE_EXPIRED, message=words), now)

    def restore(self, now: float) -> None:
        for worker_id, text in self._cell.store.items(Table.WORKERS):
            self._adopt_leases(self._cell.fleet.restore(worker_id, text, now))

    def clean(self, now: float) -> None:
        for worker in self._cell.fleet.forget(_FORGET_AFTER_S, now):
            self._cell.store.remove(Table.WORKERS, worker.id)

    def _current(self, message: WorkerMessage, now: float) -> Worker | None:
        """The worker if the message is of its current incarnation, which this message may begin."""
        fleet, worker = self._cell.fleet, self._cell.fleet.get(message.worker_id)
        if worker is not None and worker.incarnation == message.incarnation:
            return worker
        silent = worker is not None and now - worker.heard_at > self._cell.tuning.silent_after_s
        if worker is None or isinstance(message, Hello) or (silent and isinstance(message, Credit)):
            self._void_leases(message, now)
            admitted = fleet.admit(message, now)
            self._adopt_leases(admitted)
            self._cell.store.put(Table.WORKERS, admitted.id, encode_worker(admitted))
            return admitted
        return None

    def _void_leases(self, message: WorkerMessage, now: float) -> None:
        words = f"worker {message.worker_id} started anew while it held the lease"
        for lease in list(self._cell.leases.values()):
            if lease.worker_id == message.worker_id and lease.incarnation != message.incarnation:
                self._cell.ended.add(lease.id)
                self._take_back(lease, Reason(code=ReasonCode.WORKER_LOST, message=words), now)

    def _adopt_leases(self, worker: Worker) -> None:
        worker.leases = {lease.id: lease for lease in self._cell.leases.values() if lease.worker_id == worker.id}
        self._cell.fleet.settle(worker)

    def _credit(self, worker: Worker, message: Credit, now: float) -> None:
        held = frozenset(message.held)
        for lease in list(worker.leases.values()):
            self._check_held(lease, held, now)
        foreign = [name for name in message.held if name not in worker.leases]
        for lease_id in foreign:
            self._revoke_foreign(worker, lease_id)
        worker.foreign = len(foreign)
        self._cell.fleet.grant(worker, message)

    def _check_held(self, lease: LeaseRecord, held: frozenset[str], now: float) -> None:
        """Waiting behind another lease is no silence: a heartbeat that reports a lease not started yet renews it, within bounds.
        Two heartbeats in a row without a lease that should have arrived mean that it was lost."""
        tuning, lease_s = self._cell.tuning, self._cell.catalog.policy.lease_s
        if lease.id in held:
            lease.missed = 0
            if not lease.started and now - lease.issued_at < tuning.waiting_renewals * lease_s:
                self._renew(lease, now)
        elif now - lease.issued_at > tuning.lost_after_s:
            lease.missed += 1
            if lease.missed >= 2:
                self._cell.ended.add(lease.id)
                words = f"worker {lease.worker_id} does not hold the lease"
                self._take_back(lease, Reason(code=ReasonCode.WORKER_LOST, message=words), now)

    def _revoke_foreign(self, worker: Worker, lease_id: str) -> None:
        """A lease that this scheduler doesn't know, as after a restore: its requests are queued again, so it must stop."""
        if lease_id not in self._cell.ended:
            self._cell.ended.add(lease_id)
            self._cell.emit(Revoke(lease_id=lease_id, worker_id=worker.id, pool=worker.pool))

    def _progress(self, worker: Worker, message: Started | RenderProgress, now: float) -> None:
        lease = worker.leases.get(message.lease_id)
        if lease is None:
            return
        if not lease.started:
            lease.started, lease.started_at = True, now
        self._renew(lease, now)
        if isinstance(message, Started):
            return
        for entry in lease.entries.values():
            if is_due(now, entry.progress_at, self._cell.tuning.progress_every_s):
                entry.progress_at = now
                self._cell.announce(
                    entry,
                    State.PROCESSING,
                    now,
                    worker_id=worker.id,
                    pool=worker.pool,
                    model_version=lease.model_version,
                    progress=_own(message.progress, entry),
                )

    def _goodbye(self, worker: Worker, now: float) -> None:
        """A drained worker hands back what it did not finish; nobody is to blame, so the attempt does not count."""
        worker.slots = 0
        for lease in list(worker.leases.values()):
            self._cell.ended.add(lease.id)
            reason = Reason(code=ReasonCode.WORKER_LOST, message=f"worker {worker.id} was drained and handed the lease back")
            self._take_back(lease, reason, now, counts=False)
        self._cell.fleet.settle(worker)

    def _completed(self, message: Completed, raw: str, now: float) -> None:
        cell, entry = self._cell, self._cell.entries.get(message.request_id)
        if entry is None or not self._counts(entry, message.lease_id) or entry.task is None:
            cell.stats.fenced += 1
            return
        trouble = _not_what_was_asked(entry, message)
        if trouble is not None:
            reason = Reason(code=ReasonCode.INVALID_FIELD, field="images", message=trouble)
            cell.dead_letter(topics.WORKERS, raw, reason, now, request_id=entry.id, tenant=entry.tenant)
            if entry.lease is not None:
                cell.retry(entry, Reason(code=ReasonCode.RENDER_FAILED, message=trouble), now)
            return
        self._settle(entry, message)
        rendered = not message.cached and not _SPARED.intersection(message.usage.cache_hits)
        if rendered and is_due(now, self._learned_at, cell.tuning.learn_every_s):
            self._learned_at = now
            self._learn(entry, message)
        self._remember_if_last(entry)
        cell.finish(
            entry,
            State.COMPLETED,
            now,
            worker_id=message.worker_id,
            pool=message.pool,
            model_version=message.model_version,
            images=message.images,
            usage=message.usage,
            degraded=message.degraded,
            trace={"lease_id": message.lease_id, "cached": message.cached, "failures": entry.failures},
        )

    def _settle(self, entry: Entry, message: Completed) -> None:
        """What it really cost, to its tenant's account."""
        correction = _correction(entry.predicted_s, message.usage.gpu_seconds)
        self._cell.lanes[entry.lane].charge(entry.tenant, correction / entry.weight)
        self._cell.quotas.correct(entry.tenant, correction)

    def _learn(self, entry: Entry, message: Completed) -> None:
        """What it really cost, to whoever predicts the next."""
        cell, actual_s = self._cell, message.usage.gpu_seconds
        route = cell.catalog.route(entry.shape[0])
        if route is None or entry.task is None:
            return
        model, learned = f"{entry.shape[0]}/{message.model_version}", cell.learned
        learned.changed_costs.update(learned.costs.observe(model, Work.of(entry.task), actual_s, route.defaults, message.pool))
        if entry.lease is not None and entry.lease.size:
            learned.batches.observe((model, entry.shape, message.pool), entry.lease.size, actual_s)

    def _failed(self, message: Failed, now: float) -> None:
        lease = self._cell.leases.get(message.lease_id)
        if lease is None or lease.incarnation != message.incarnation:
            self._cell.stats.fenced += 1
            return
        wanted = [message.request_id] if message.request_id else list(lease.entries)
        for entry in [lease.entries[name] for name in wanted if name in lease.entries]:
            self._remember_if_last(entry)
            if message.retryable or self._is_refusal_of_one(entry, lease, message.reason, now):
                self._cell.retry(entry, message.reason, now)
            else:
                self._cell.fail(entry, message.reason, now)

    def _is_refusal_of_one(self, entry: Entry, lease: LeaseRecord, reason: Reason, now: float) -> bool:
        """Whether only this worker won't serve the version, or another version serves by now or goes on for it."""
        worker, model = self._cell.fleet.get(lease.worker_id), f"{entry.shape[0]}/{lease.model_version}"
        if reason.code is not ReasonCode.MODEL_LOAD_FAILED or worker is None or model not in worker.refused:
            return False
        route = self._cell.catalog.route(entry.shape[0])
        if route is None or route.champion is None:
            return False
        # The stand-in of a version on trial is the champion.
        versions = [route.champion.key, *([route.previous.key] if route.previous else [])]
        return any(self._cell.fleet.willing(version, entry.pools, now) for version in versions)

    def _counts(self, entry: Entry, lease_id: str) -> bool:
        """The rule in the class's docstring."""
        return entry.lease.id == lease_id if entry.lease is not None else entry.phase is not Phase.HELD

    def _take_back(self, lease: LeaseRecord, reason: Reason, now: float, *, counts: bool = True) -> None:
        for entry in list(lease.entries.values()):
            self._cell.retry(entry, reason, now, counts=counts)

    def _renew(self, lease: LeaseRecord, now: float) -> None:
        lease.expires_at = now + self._cell.catalog.policy.lease_s
        self._cell.timers.set(Alarm.LEASE, lease.id, lease.expires_at)

    def _remember_if_last(self, entry: Entry) -> None:
        if entry.lease is not None and len(entry.lease.entries) == 1:
            self._cell.ended.add(entry.lease.id)


def _own(progress: Progress, entry: Entry) -> Progress:
    """Without the previews of others in its micro-batch."""
    if not progress.previews:
        return progress
    mine = preview_key(entry.tenant, entry.id)
    return progress.model_copy(update={"previews": tuple(key for key in progress.previews if key == mine)})


def _correction(predicted_s: float, actual_s: float) -> float:
    """What a tenant still owes after a completion; a wild report moves it by no more than nine times the prediction."""
    return min(actual_s, 10 * predicted_s) - predicted_s


def _not_what_was_asked(entry: Entry, message: Completed) -> str | None:
    task = entry.task
    if task is None or len(message.images) != task.images:
        return f"images: {len(message.images)} were reported where {task.images if task else 0} were asked for"
    for index, image in enumerate(message.images):
        wanted = image_key(task.tenant, task.request_id, index, task.image_format)
        if image.index != index:
            return f"images.{index}.index: must be {index}, as images are told in their order"
        if image.key != wanted:
            return f"images.{index}.key: must be {wanted}"
    return None
