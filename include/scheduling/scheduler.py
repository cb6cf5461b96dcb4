"""The scheduler of one cell: events in, decisions out. No clock, no I/O."""

from __future__ import annotations

import json

from include.contracts import topics
from include.contracts.control import AnyControlMessage, Cancel, Policy, TenantQuota
from include.contracts.defaults import default_policy
from include.contracts.events import Lane, SharesEvent
from include.contracts.requests import GenerationRequest, ServiceClass
from include.contracts.workers import AnyWorkerMessage
from include.routing.catalog import Catalog
from include.routing.parse import Refusal, parse_control
from include.scheduling.batch_room import BatchRoom
from include.scheduling.cell import Cell, Decision
from include.scheduling.dispatcher import Dispatcher
from include.scheduling.fleet import Worker
from include.scheduling.intake import Intake
from include.scheduling.records import Entry, LeaseRecord, Phase, decode_entry
from include.scheduling.stats import Stats
from include.scheduling.store import StateStore, Table
from include.scheduling.timers import Alarm, is_due
from include.scheduling.tuning import Tuning
from include.scheduling.worker_desk import WorkerDesk

_CLEAN_EVERY_S = 10.0


class Scheduler:
    """One cell. Each call takes the time as seconds since 1970 and returns what to publish: events, leases, revocations, dead letters.

    Every change of state is in the store before a call returns, so a checkpoint of the store is the scheduler. A scheduler that is built
    over a store with content goes on where that store was: same queue, same leases. Each lease gets one full term from the
    first call, because nobody listened to its worker meanwhile; and workers get new leases only after they said what they hold.
    """

    def __init__(
        self,
        *,
        cell: str,
        pools: frozenset[str],
        store: StateStore,
        default_model: str = "",
        lease_s: float = 30.0,
        max_attempts: int = 3,
        tuning: Tuning | None = None,
    ) -> None:
        catalog = Catalog(default_policy(lease_s=lease_s, max_attempts=max_attempts), default_model)
        self._cell = Cell(cell, pools, store, catalog, tuning or Tuning())
        self._intake = Intake(self._cell)
        self._desk = WorkerDesk(self._cell)
        self._dispatcher = Dispatcher(self._cell)
        self._batch_room = BatchRoom(self._cell)
        self._restored = False
        self._cleaned_at = self._saved_at = 0.0

    def submit(self, request: GenerationRequest, raw: str, service_class: ServiceClass, now: float) -> list[Decision]:
        """``raw`` is the original message as ISO-8859-1; a dead letter gives it back."""
        self._begin(now)
        self._intake.submit(request, raw, service_class, now)
        return self._conclude(now)

    def refuse(self, refusal: Refusal, raw: str | None, service_class: ServiceClass, now: float) -> list[Decision]:
        """A message that could not be read as a request."""
        self._begin(now)
        self._intake.refuse(refusal, raw, service_class, now)
        return self._conclude(now)

    def on_worker(self, message: AnyWorkerMessage, raw: str, now: float) -> list[Decision]:
        self._begin(now)
        self._desk.take(message, raw, now)
        return self._conclude(now)

    def on_control(self, message: AnyControlMessage, raw: str, now: float) -> list[Decision]:
        self._begin(now)
        if isinstance(message, Cancel):
            self._intake.cancel(message, raw, now)
        else:
            self._cell.catalog.put(message)
            self._cell.store.put(Table.CONTROL, message.key, raw)
            if isinstance(message, Policy):
                self._move_shares(now)
            if isinstance(message, Policy | TenantQuota):
                self._cell.review_caps()
            for model in list(self._cell.parked):
                if self._cell.catalog.route(model) is not None:
                    self._cell.unpark(model)
            self._intake.release_held(now)
        return self._conclude(now)

    def reject(self, source_topic: str, refusal: Refusal, raw: str | None, now: float) -> list[Decision]:
        """A worker's or control message that could not be read: what held before goes on holding."""
        self._begin(now)
        self._cell.dead_letter(source_topic, raw, refusal.reason, now)
        return self._conclude(now)

    def tick(self, now: float) -> list[Decision]:
        """Whatever is due: deadlines, leases, backoffs, cleaning."""
        self._begin(now)
        for alarm, name in self._cell.timers.take(now):
            # What one alarm ends may be what a later one of the same tick was for.
            if alarm is Alarm.EXPIRY and name in self._cell.entries:
                self._expire(self._cell.entries[name], now)
            elif alarm is Alarm.LEASE and name in self._cell.leases:
                self._desk.lease_expired(name, now)
            elif alarm is Alarm.RETRY and name in self._cell.entries:
                self._cell.requeue(self._cell.entries[name], now)
        if self._cell.held:
            self._intake.release_held(now)
        self._move_shares(now)
        self._cell.take_note()
        self._save(now)
        self._clean(now)
        return self._conclude(now)

    @property
    def busy(self) -> bool:
        """Whether there is anything that time alone can move on."""
        return bool(self._cell.entries or self._intake.waiting_cancels)

    def batch_open(self) -> bool:
        """Whether batch requests may come in; those that come all the same are taken."""
        return self._cell.batch_open

    @property
    def stats(self) -> Stats:
        return self._cell.stats

    def depth(self, lane: Lane) -> int:
        return len(self._cell.lanes[lane])

    def queued_s(self, lane: Lane) -> float:
        """Predicted device seconds that wait in a lane."""
        return self._cell.backlog(lane)

    def oldest_wait_s(self, lane: Lane, now: float) -> float:
        oldest = self._cell.lanes[lane].oldest()
        return 0.0 if oldest is None else max(0.0, now - oldest.accepted_at)

    def share(self, lane: Lane) -> float:
        """Share of the device time that is guaranteed to a lane now."""
        return self._cell.lanes.floors[lane]

    def estimate_error(self) -> float:
        """How far the share of waits that end within their estimate's band is from the four in five that are meant to."""
        return self._cell.learned.waits.calibration_error

    def cost_error(self) -> float:
        """Typical relative error of predicted device seconds."""
        return self._cell.learned.costs.error()

    def in_flight(self) -> int:
        return sum(len(lease.entries) for lease in self._cell.leases.values())

    def live_workers(self, now: float) -> int:
        return self._cell.fleet.live(now)

    def entries(self) -> dict[str, Entry]:
        """Every request that is not over, by id. To look at, not to change."""
        return dict(self._cell.entries)

    def leases(self) -> dict[str, LeaseRecord]:
        """Current leases by id. To look at, not to change."""
        return dict(self._cell.leases)

    def worker(self, worker_id: str) -> Worker | None:
        return self._cell.fleet.get(worker_id)

    def _begin(self, now: float) -> None:
        if not self._restored:
            self._restored = True
            self._restore(now)

    def _conclude(self, now: float) -> list[Decision]:
        self._dispatcher.dispatch(now)
        self._cell.batch_open = self._batch_room.is_open()
        return self._cell.take_decisions()

    def _expire(self, entry: Entry, now: float) -> None:
        """A deadline concerns those that wait; what a worker renders already may still come late."""
        if entry.lease is None:
            self._cell.expire(entry, now)

    def _move_shares(self, now: float) -> None:
        """Let the lanes' guaranteed shares follow their waits, and tell of each move."""
        cell, policy = self._cell, self._cell.catalog.policy
        for lane in Lane:
            cell.learned.drain.waiting(lane, bool(cell.lanes[lane]), now)
        oldest = {lane: self.oldest_wait_s(lane, now) for lane in Lane if len(cell.lanes[lane])}
        move = cell.learned.shares.update(oldest, policy.lane_floor, policy.lane_objective_s, now)
        if move is None:
            cell.lanes.set_floors(cell.learned.shares.shares)
            return
        cell.lanes.set_floors(move.after)
        cell.stats.share_moves += 1
        event_id = f"{cell.name}:shares:{now!r}"
        cell.emit(SharesEvent(event_id=event_id, cell=cell.name, at=now, before=move.before, after=move.after, reason=move.reason))

    def _save(self, now: float) -> None:
        if is_due(now, self._saved_at, self._cell.tuning.learned_every_s):
            self._saved_at = now
            self._cell.learned.save()

    def _clean(self, now: float) -> None:
        if not is_due(now, self._cleaned_at, _CLEAN_EVERY_S):
            return
        self._cleaned_at = now
        self._cell.ids.clean(now, self._cell.entries, at_most=20_000)
        self._intake.clean(now)
        self._desk.clean(now)
        self._cell.learned.forget_idle(now)
        for lane in Lane:
            self._cell.lanes[lane].forget_idle()

    def _restore(self, now: float) -> None:
        self._restore_catalog(now)
        self._cell.ids.restore()
        self._cell.restore_fairness()
        self._cell.learned.restore()
        self._restore_entries()
        for name, text in self._cell.store.items(Table.LEASES):
            self._restore_lease(name, text, now)
        for entry in sorted(self._cell.entries.values(), key=lambda entry: entry.seq):
            self._restore_place(entry)
        self._desk.restore(now)
        self._intake.restore(now)

    def _restore_catalog(self, now: float) -> None:
        """A message that an earlier release took and this one doesn't is dropped; its sender is to say it anew."""
        for key, raw in self._cell.store.items(Table.CONTROL):
            message = parse_control(raw)
            if isinstance(message, Refusal):
                self._cell.store.remove(Table.CONTROL, key)
                self._cell.dead_letter(topics.CONTROL, raw, message.reason, now)
            elif not isinstance(message, Cancel):
                self._cell.catalog.put(message)

    def _restore_entries(self) -> None:
        cell, attempts = self._cell, dict(self._cell.store.items(Table.ATTEMPTS))
        for name, text in cell.store.items(Table.REQUESTS):
            entry = decode_entry(text)
            cell.entries[name] = entry
            cell.next_seq = max(cell.next_seq, entry.seq + 1)
            cell.quotas.opened(entry.tenant)
            if name in attempts:
                entry.decode_attempts(attempts[name])
            if entry.request.deadline_at is not None:
                cell.timers.set(Alarm.EXPIRY, name, entry.deadline - entry.least_s)
            if entry.task is None:
                continue
            # An entry of the release before has no pools yet.
            entry.pools = entry.pools or cell.classifier.pools(entry.request, entry.task, entry.shape[0], entry.lane) or cell.pools
            entry.queued_at = entry.accepted_at

    def _restore_lease(self, name: str, text: str, now: float) -> None:
        cell, saved = self._cell, json.loads(text)
        requests = saved.pop("requests")
        lease = LeaseRecord(id=name, expires_at=now + cell.catalog.policy.lease_s, **saved)
        for request_id, (dispatches, failures, last_worker) in requests.items():
            entry = cell.entries[request_id]
            entry.dispatches, entry.failures, entry.last_worker = dispatches, failures, last_worker
            entry.phase, entry.lease, entry.dispatched_at = Phase.LEASED, lease, lease.issued_at
            lease.entries[request_id] = entry
            if cell.quotas.started(entry):
                cell.lanes.pause(entry.tenant)
        cell.leases[name] = lease
        cell.timers.set(Alarm.LEASE, name, lease.expires_at)

    def _restore_place(self, entry: Entry) -> None:
        """Put it where it was; one that was parked is parked again when its turn comes."""
        cell = self._cell
        if entry.phase is Phase.HELD:
            cell.held[entry.id] = entry
        elif entry.phase is Phase.QUEUED and entry.not_before > 0:
            entry.phase = Phase.DELAYED
            cell.timers.set(Alarm.RETRY, entry.id, entry.not_before)
        elif entry.phase is Phase.QUEUED:
            cell.place(entry)
