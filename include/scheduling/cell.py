"""The state of one cell and the moves a request can make in it; each move is written through and announced."""

from __future__ import annotations

import base64
from math import inf
from typing import Any

from include.contracts import topics
from include.contracts.dead_letters import DeadLetter
from include.contracts.dispatch import Lease, Revoke
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Lane, SharesEvent, State, StatusEvent, event_id
from include.contracts.requests import ServiceClass
from include.routing.catalog import Catalog
from include.routing.classify import Classifier
from include.scheduling.fleet import Fleet
from include.scheduling.ids import IdWindow
from include.scheduling.lanes import Lanes
from include.scheduling.learned import Learned
from include.scheduling.quotas import Quotas
from include.scheduling.records import EndedLeases, Entry, LeaseRecord, Phase
from include.scheduling.stats import Stats
from include.scheduling.store import StateStore, Table
from include.scheduling.timers import Alarm, Timers
from include.scheduling.tuning import Tuning, retry_delay_s

Decision = StatusEvent | SharesEvent | Lease | Revoke | DeadLetter

SOURCE_TOPIC = {ServiceClass.REALTIME: topics.REALTIME, ServiceClass.BATCH: topics.BATCH}

_LANES_KEY = "lanes"

#: What a dead letter keeps of an original at most, so that it stays below what a broker takes.
MAX_ORIGINAL_BYTES = 2 * 1024 * 1024


class Cell:
    """Everything the scheduler knows. The store holds what must survive; the rest is an index over it."""

    def __init__(self, name: str, pools: frozenset[str], store: StateStore, catalog: Catalog, tuning: Tuning) -> None:
        self.name = name
        self.pools = pools
        self.store = store
        self.catalog = catalog
        self.tuning = tuning
        self.entries: dict[str, Entry] = {}
        self.leases: dict[str, LeaseRecord] = {}
        self.lanes = Lanes(catalog.policy.lane_floor)
        self.quotas = Quotas(catalog)
        self.learned = Learned(store, self.quotas, shares_every_s=tuning.shares_every_s)
        self.classifier = Classifier(catalog, self.learned.costs, pools)
        self.fleet = Fleet(silent_after_s=tuning.silent_after_s, lookahead=tuning.affinity_lookahead, switch_s=tuning.model_switch_s)
        self.ids = IdWindow(store, window_s=tuning.id_window_s, max_ids=tuning.max_ids)
        self.timers = Timers()
        self.stats = Stats()
        self.parked: dict[str, dict[str, Entry]] = {}
        self.held: dict[str, Entry] = {}
        self.ended = EndedLeases()
        self.batch_open = True  #: whether batch requests may come in; else they wait in their topic
        self.next_seq = 1
        self._account = ""
        self._counted, self._live = (0, 0), 0
        self._decisions: list[Decision] = []

    def emit(self, decision: Decision) -> None:
        self._decisions.append(decision)

    def take_decisions(self) -> list[Decision]:
        taken, self._decisions = self._decisions, []
        return taken

    def announce(self, entry: Entry, state: State, now: float, **details: Any) -> None:
        """Publish a state change; ``details`` are further fields of :class:`StatusEvent`."""
        request, reason = entry.request, details.get("reason")
        if reason is not None:
            self.stats.reasons[reason.code] += 1
        step = details["progress"].step if "progress" in details else 0
        degraded = details.pop("degraded", ())
        self.emit(
            StatusEvent.trusted(
                # A replay after a restore may find it at another attempt; its one end is one event all the same.
                event_id=event_id(request.request_id, state, 0 if state.terminal else entry.dispatches, step),
                request_id=request.request_id,
                tenant=request.tenant,
                state=state,
                at=now,
                tier=request.tier,
                service_class=entry.service_class,
                lane=entry.lane if entry.task else None,
                attempt=entry.dispatches,
                model=entry.shape[0] or None,
                trace_id=request.trace_id,
                degraded=(*entry.task.degraded, *degraded) if entry.task else (),
                **details,
            )
        )

    def accept(self, entry: Entry, now: float) -> None:
        """Take responsibility for a request: from here on it ends in exactly one terminal event."""
        self.next_seq = max(self.next_seq, entry.seq + 1)
        self.entries[entry.id] = entry
        self.ids.claim(entry.id, entry.tenant, now)
        self.quotas.opened(entry.tenant)

    def enqueue(self, entry: Entry, now: float, **trace: Any) -> None:
        """Put it into its lane and say so, with an estimate of its wait; ``trace`` is what else led to it."""
        lane = entry.lane
        place, ahead_s = self.lanes[lane].ahead_of(entry.tenant)
        entry.queued_at = now
        entry.estimate = self.learned.waits.estimate(ahead_s, self.drain_rate(lane, now), lane)
        if not self.lanes[lane]:
            self.learned.drain.waiting(lane, True, now)
        if entry.deadline < inf:
            self.timers.set(Alarm.EXPIRY, entry.id, entry.deadline - entry.least_s)
        self.place(entry)
        trace["predicted_gpu_s"] = round(entry.predicted_s, 4)
        trace["queued_gpu_s"] = round(self.lanes[lane].queued_s, 4)
        if entry.pools != self.pools:
            trace["pools"] = sorted(entry.pools)
        trace["outcome"] = entry.admission
        self.announce(entry, State.QUEUED, now, position=place + 1, estimate=entry.estimate.message(), trace=trace)

    def place(self, entry: Entry) -> None:
        """Into its lane. The last attempt of what failed before renders alone, so that it can't take others down with it."""
        entry.phase = Phase.QUEUED
        entry.alone = 0 < entry.failures >= self.catalog.policy.max_attempts - 1
        self.lanes[entry.lane].push(entry)

    def park(self, entry: Entry) -> None:
        """Out of its lane until its model is served again, so that it holds up nobody behind it."""
        self.lanes[entry.lane].remove(entry)
        entry.phase = Phase.PARKED
        self.parked.setdefault(entry.shape[0], {})[entry.id] = entry

    def unpark(self, model: str) -> None:
        for entry in self.parked.pop(model, {}).values():
            self.place(entry)

    def finish(self, entry: Entry, state: State, now: float, **details: Any) -> None:
        """The one terminal event of a request; afterwards only its id is remembered. It names the version that was at it, if any was."""
        if entry.lease is not None:
            details.setdefault("model_version", entry.lease.model_version)
        self._withdraw(entry)
        self.quotas.closed(entry.tenant)
        if entry.deadline < inf:
            self.timers.clear(Alarm.EXPIRY, entry.id)
        del self.entries[entry.id]
        self.store.remove(Table.REQUESTS, entry.id)
        if entry.noted:
            self.store.remove(Table.ATTEMPTS, entry.id)
        self.stats.outcomes[state] += 1
        if entry.dispatches and "waited_s" not in details:
            details["waited_s"] = max(0.0, entry.dispatched_at - entry.accepted_at)
        self.announce(entry, state, now, **details)

    def fail(self, entry: Entry, reason: Reason, now: float) -> None:
        """Give it up: a Failed event, and its original to the people."""
        self.finish(entry, State.FAILED, now, reason=reason)
        self.bury(entry, reason, now)

    def retry(self, entry: Entry, reason: Reason, now: float, *, counts: bool = True) -> None:
        """Back to its lane after a backoff, or over if its attempts or its time are used up; at once if the attempt does not count."""
        entry.failures += counts
        if counts and entry.failures >= self.catalog.policy.max_attempts:
            self.fail(entry, reason, now)
            return
        if entry.deadline <= now + entry.least_s:
            self.expire(entry, now)
            return
        self._withdraw(entry)
        self.stats.retries += 1
        delay = retry_delay_s(self.tuning, entry.id, entry.failures) if counts else 0.0
        entry.phase, entry.not_before = Phase.DELAYED, now + delay if delay else 0.0
        self._note_attempts(entry)
        self.announce(entry, State.RETRYING, now, reason=reason, trace={"backoff_s": round(delay, 3), "failures": entry.failures})
        if delay:
            self.timers.set(Alarm.RETRY, entry.id, entry.not_before)
        else:
            self.enqueue(entry, now)

    def requeue(self, entry: Entry, now: float) -> None:
        """Its backoff is over."""
        entry.not_before = 0.0
        self._note_attempts(entry)
        self.enqueue(entry, now)

    def review_caps(self) -> None:
        """Quotas changed: who may run more, and who not."""
        for tenant in self.quotas.busy():
            if self.quotas.is_capped(tenant):
                self.lanes.pause(tenant)
            else:
                self.lanes.resume(tenant)

    def detach(self, entry: Entry) -> None:
        """Take it out of its lease; a lease without open requests ends and frees its worker's slot."""
        lease = entry.lease
        if lease is None:
            return
        if not self.quotas.stopped(entry.tenant):
            self.lanes.resume(entry.tenant)
        entry.lease, entry.last_worker = None, lease.worker_id
        del lease.entries[entry.id]
        if lease.entries:
            self.store.put(Table.LEASES, lease.id, lease.encode())
        else:
            self.end_lease(lease)

    def end_lease(self, lease: LeaseRecord) -> None:
        del self.leases[lease.id]
        self.store.remove(Table.LEASES, lease.id)
        self.timers.clear(Alarm.LEASE, lease.id)
        worker = self.fleet.get(lease.worker_id)
        if worker is not None and worker.leases.pop(lease.id, None) is not None:
            self.fleet.settle(worker)

    def bury(self, entry: Entry, reason: Reason, now: float) -> None:
        self.dead_letter(
            SOURCE_TOPIC[entry.service_class],
            entry.raw,
            reason,
            now,
            request_id=entry.id,
            tenant=entry.tenant,
            attempts=entry.dispatches,
        )

    def dead_letter(self, source_topic: str, raw: str | None, reason: Reason, now: float, **identity: Any) -> None:
        """``raw`` is the message as ISO-8859-1, None for a null value."""
        self.stats.dead_letters += 1
        if raw is not None and len(raw) > MAX_ORIGINAL_BYTES:
            words = f"{reason.message} (the first {MAX_ORIGINAL_BYTES} of {len(raw)} bytes are kept)"
            reason, raw = reason.model_copy(update={"message": words[:2000]}), raw[:MAX_ORIGINAL_BYTES]
        original = None if raw is None else base64.b64encode(raw.encode("latin-1")).decode()
        self.emit(DeadLetter(source_topic=source_topic, at=now, reason=reason, original=original, **identity))

    def revoke(self, lease: LeaseRecord, request_ids: tuple[str, ...] = ()) -> None:
        self.emit(Revoke(lease_id=lease.id, worker_id=lease.worker_id, pool=lease.pool, request_ids=request_ids))

    def expire(self, entry: Entry, now: float) -> None:
        left = entry.deadline - now
        words = "its deadline passed before it was rendered"
        if left > 0:
            words = f"its deadline is in {left:.1f} s and it takes {entry.least_s:.1f} s at least"
        reason = Reason(code=ReasonCode.DEADLINE_PASSED, message=words, field="deadline_at")
        self.finish(entry, State.EXPIRED, now, reason=reason)

    def backlog(self, lane: Lane) -> float:
        """Predicted device seconds that wait in a lane."""
        return self.lanes[lane].queued_s

    def drain_rate(self, lane: Lane, now: float) -> float:
        """Device seconds a second that a lane gets: what it got lately; before that, all that nobody waits for before it."""
        share = 1.0 if not any(self.lanes[each] for each in Lane if each is not lane) else self.lanes.floors[lane]
        return self.learned.drain.rate(lane, now, prior=share * self._live_workers(now))

    def take_note(self) -> None:
        """Write down what each tenant was served and each lane is owed, so that a restored queue is the same queue.

        Every tick does. Between two ticks a request is dispatched or two; a restore that forgets them shifts turns by as much.
        """
        for lane, queue in self.lanes.queues:
            for name in queue.dirty:
                tag, key = queue.tag(name), f"{lane}\t{name}"
                if tag is None:
                    self.store.remove(Table.FAIRNESS, key)
                else:
                    self.store.put(Table.FAIRNESS, key, f"{tag[0]!r}\t{tag[1]}")
            queue.dirty.clear()
        account = self.lanes.account()
        if account != self._account:
            self._account = account
            self.store.put(Table.FAIRNESS, _LANES_KEY, account)

    def restore_fairness(self) -> None:
        for key, text in self.store.items(Table.FAIRNESS):
            if key == _LANES_KEY:
                self.lanes.restore_account(text)
                continue
            lane, name = key.split("\t")
            tag, order = text.split("\t")
            self.lanes[Lane(lane)].restore_tag(name, float(tag), int(order))

    def _note_attempts(self, entry: Entry) -> None:
        entry.noted = True
        self.store.put(Table.ATTEMPTS, entry.id, entry.encode_attempts())

    def _live_workers(self, now: float) -> int:
        """Counted once a second, since every request asks."""
        counted = (len(self.fleet), int(now))
        if counted != self._counted:
            self._counted, self._live = counted, self.fleet.live(now)
        return self._live

    def _withdraw(self, entry: Entry) -> None:
        """Take it out of wherever its phase says it is."""
        if entry.phase is Phase.QUEUED:
            self.lanes[entry.lane].remove(entry)
        elif entry.phase is Phase.PARKED:
            self.parked[entry.shape[0]].pop(entry.id)
        elif entry.phase is Phase.HELD:
            self.held.pop(entry.id)
        elif entry.phase is Phase.DELAYED:
            self.timers.clear(Alarm.RETRY, entry.id)
        self.detach(entry)
