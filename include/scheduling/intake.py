"""Requests on their way in: refused, held, or queued. And cancelled."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

from include.contracts import topics
from include.contracts.control import Cancel
from include.contracts.errors import Reason, ReasonCode, RefusedError
from include.contracts.events import Admission, Lane, State, StatusEvent, event_id
from include.contracts.requests import GenerationRequest, ServiceClass
from include.routing.classify import Classified
from include.routing.parse import Refusal
from include.scheduling.cell import SOURCE_TOPIC, Cell
from include.scheduling.records import Entry
from include.scheduling.store import Table
from include.scheduling.timers import Alarm

_NOT_READ_YET = frozenset({ReasonCode.UNKNOWN_MODEL, ReasonCode.UNKNOWN_SCENARIO})


class Intake:
    """Admission of a cell.

    A refused id is not remembered: the same id may be sent again, mended or after ``retry_after_s``. An accepted id is, for the
    idempotency window; who sends it again gets a dead letter and no second event, and another tenant learns nothing but that it is taken.

    A scheduler that starts without state reads requests and the control topic at once, so for ``control_grace_s`` a request for a
    model or scenario not heard of yet is held rather than refused.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._cancels: dict[str, tuple[str, float]] = {}
        self._fresh_until: float | None = None

    def submit(self, request: GenerationRequest, raw: str, service_class: ServiceClass, now: float) -> None:
        cell = self._cell
        if self._fresh_until is None:
            self._fresh_until = now + cell.tuning.control_grace_s
        if cell.ids.owner(request.request_id) is not None:
            self._refuse_request(request, Reason(code=ReasonCode.DUPLICATE_ID, message=""), raw, service_class, now)
            return
        entry = Entry(request=request, raw=raw, service_class=service_class, accepted_at=now, seq=cell.next_seq)
        reason = self._try_to_queue(entry, now)
        if reason is None:
            return
        if reason.code in _NOT_READ_YET and now < self._fresh_until:
            self._hold(entry, now)
            return
        self._refuse_request(request, reason, raw, service_class, now)

    def refuse(self, refusal: Refusal, raw: str | None, service_class: ServiceClass, now: float) -> None:
        """A dead letter; and a Refused event where it is known whose it is and the id isn't in use."""
        cell, owner = self._cell, None
        if refusal.request_id is not None:
            owner = cell.ids.owner(refusal.request_id)
        reason = refusal.reason if owner is None else _id_reason(refusal, owner)
        cell.stats.reasons[reason.code] += 1
        cell.stats.admissions[_outcome(reason.code)] += 1
        if owner is None and refusal.request_id is not None and refusal.tenant is not None:
            cell.stats.outcomes[State.REFUSED] += 1
            cell.emit(
                StatusEvent(
                    event_id=event_id(refusal.request_id, State.REFUSED, 0),
                    request_id=refusal.request_id,
                    tenant=refusal.tenant,
                    state=State.REFUSED,
                    at=now,
                    service_class=service_class,
                    reason=reason,
                    trace_id=refusal.trace_id,
                )
            )
        cell.dead_letter(SOURCE_TOPIC[service_class], raw, reason, now, request_id=refusal.request_id, tenant=refusal.tenant)

    def cancel(self, message: Cancel, raw: str, now: float) -> None:
        """Stop a request of its owner's. One that is over stays over; one that has not come yet is cancelled when it comes."""
        cell = self._cell
        entry = cell.entries.get(message.request_id)
        owner = cell.ids.owner(message.request_id)
        if entry is not None and entry.tenant == message.tenant:
            self._cancel(entry, now)
        elif owner is None and now - message.at < cell.tuning.early_cancel_s:
            self._remember_cancel(message.request_id, message.tenant, now)
        elif owner is not None and owner != message.tenant:
            reason = Reason(
                code=ReasonCode.ID_TAKEN, field="request_id", message=f"request_id: {message.tenant} has no request {message.request_id}"
            )
            cell.dead_letter(topics.CONTROL, raw, reason, now, tenant=message.tenant)

    def release_held(self, now: float) -> None:
        """Look again at what was held, now that the control topic may have said more or the grace is over."""
        over = self._fresh_until is not None and now >= self._fresh_until
        for entry in list(self._cell.held.values()):
            reason = self._try_to_queue(entry, now)
            if reason is not None and (over or reason.code not in _NOT_READ_YET):
                self._cell.finish(entry, State.REFUSED, now, reason=reason)
                self._cell.ids.release(entry.id)
                self._cell.bury(entry, reason, now)

    @property
    def waiting_cancels(self) -> int:
        """Cancellations whose request has not come yet."""
        return len(self._cancels)

    def clean(self, now: float) -> None:
        late = [name for name, (_, at) in self._cancels.items() if now - at >= self._cell.tuning.early_cancel_s]
        for name in late:
            del self._cancels[name]
            self._cell.store.remove(Table.CANCELS, name)

    def restore(self, now: float) -> None:
        rows = ((name, value.split("\t")) for name, value in self._cell.store.items(Table.CANCELS))
        waiting = ((name, (tenant, float(at))) for name, (tenant, at) in rows)
        self._cancels = dict(sorted(waiting, key=lambda item: (item[1][1], item[0])))
        if self._cell.held:
            self._fresh_until = now + self._cell.tuning.control_grace_s
        elif any(True for _ in self._cell.store.items(Table.CONTROL)):
            self._fresh_until = now

    def _refuse_request(self, request: GenerationRequest, reason: Reason, raw: str, service_class: ServiceClass, now: float) -> None:
        refusal = Refusal(reason=reason, request_id=request.request_id, tenant=request.tenant, trace_id=request.trace_id)
        self.refuse(refusal, raw, service_class, now)

    def _try_to_queue(self, entry: Entry, now: float) -> Reason | None:
        """Queue it, or say why not."""
        cell = self._cell
        try:
            found = cell.classifier.classify(entry.request, entry.service_class, partial(self._level, now=now))
        except RefusedError as error:
            return error.reason
        entry.resolve(found.model, found.task, found.prediction.seconds, found.prediction.low_s)
        entry.lane, entry.pools = found.lane, found.pools
        refused = _too_late(entry, now) or cell.quotas.check(entry, now) or self._full(entry, now)
        if refused is not None:
            entry.task = None
            return refused
        entry.admission = self._admission(entry, found)
        entry.weight = cell.catalog.quota(entry.tenant, entry.request.tier).weight
        cell.quotas.admit(entry, now)
        cell.stats.admissions[entry.admission] += 1
        if cell.held.pop(entry.id, None) is None:
            cell.accept(entry, now)
        cell.enqueue(entry, now, **_classification(found))
        cell.store.put(Table.REQUESTS, entry.id, entry.encode())
        if entry.id in self._cancels:
            self._cancel_early(entry, now)
        return None

    def _level(self, lane: Lane, *, now: float) -> int:
        """The rung of the ladder that a lane's backlog asks for."""
        cell = self._cell
        policy = cell.catalog.policy
        return cell.learned.ladder.level(lane, cell.backlog(lane) / policy.lane_bound_s[lane], policy, now)

    def _admission(self, entry: Entry, found: Classified) -> Admission:
        if found.level:
            return Admission.DEGRADED
        return Admission.DEFERRED if entry.service_class is ServiceClass.BATCH and not self._cell.batch_open else Admission.ADMITTED

    def _full(self, entry: Entry, now: float) -> Reason | None:
        """Why a realtime request finds no room. A batch request waits in its topic while there is none, and is taken once it was read."""
        if entry.service_class is not ServiceClass.REALTIME:
            return None
        cell = self._cell
        bound, queued = cell.catalog.policy.lane_bound_s[entry.lane], cell.backlog(entry.lane)
        if queued + entry.predicted_s <= bound or not queued:
            return None
        wait = max(1.0, (queued + entry.predicted_s - bound) / max(0.01, cell.drain_rate(entry.lane, now)))
        message = f"the {entry.lane} lane holds {queued:.0f} of {bound:.0f} device seconds; come back in {wait:.0f} s"
        return Reason(code=ReasonCode.OVERLOADED, message=message, retry_after_s=round(wait, 1))

    def _hold(self, entry: Entry, now: float) -> None:
        cell = self._cell
        cell.accept(entry, now)
        cell.held[entry.id] = entry
        if entry.deadline < inf:
            cell.timers.set(Alarm.EXPIRY, entry.id, entry.deadline)
        cell.store.put(Table.REQUESTS, entry.id, entry.encode())

    def _cancel(self, entry: Entry, now: float) -> None:
        cell = self._cell
        if entry.lease is not None:
            cell.revoke(entry.lease, (entry.id,))
        reason = Reason(code=ReasonCode.CANCELLED, message="cancelled by its tenant")
        cell.finish(entry, State.CANCELLED, now, reason=reason)

    def _remember_cancel(self, request_id: str, tenant: str, now: float) -> None:
        if request_id not in self._cancels and len(self._cancels) >= self._cell.tuning.max_early_cancels:
            oldest = next(iter(self._cancels))
            del self._cancels[oldest]
            self._cell.store.remove(Table.CANCELS, oldest)
        self._cancels[request_id] = (tenant, now)
        self._cell.store.put(Table.CANCELS, request_id, f"{tenant}\t{now!r}")

    def _cancel_early(self, entry: Entry, now: float) -> None:
        tenant, _ = self._cancels[entry.id]
        if tenant == entry.tenant:
            del self._cancels[entry.id]
            self._cell.store.remove(Table.CANCELS, entry.id)
            self._cancel(entry, now)


def _too_late(entry: Entry, now: float) -> Reason | None:
    if entry.deadline <= now:
        return Reason(code=ReasonCode.DEADLINE_PASSED, field="deadline_at", message="deadline_at has passed already; send a later one")
    if entry.deadline < now + entry.least_s:
        text = f"deadline_at is in {entry.deadline - now:.1f} s, but this takes {entry.least_s:.1f} s at least; send a later one"
        return Reason(code=ReasonCode.DEADLINE_PASSED, field="deadline_at", message=text)
    return None


def _classification(found: Classified) -> dict[str, Any]:
    """What the decision trace tells of it."""
    band = [round(found.prediction.low_s, 4), round(found.prediction.high_s, 4)]
    trace = {"band_gpu_s": band, "samples": found.prediction.samples}
    return {**trace, "ladder_level": found.level} if found.level else trace


def _outcome(code: ReasonCode) -> Admission:
    if code is ReasonCode.RATE_LIMITED:
        return Admission.RATE_LIMITED
    return Admission.OVERLOADED if code is ReasonCode.OVERLOADED else Admission.REFUSED


def _id_reason(refusal: Refusal, owner: str) -> Reason:
    """Says nothing of the owner or of the request that has the id."""
    if refusal.tenant == owner:
        return Reason(code=ReasonCode.DUPLICATE_ID, field="request_id", message="request_id was sent before; its first request stands")
    return Reason(code=ReasonCode.ID_TAKEN, field="request_id", message="request_id is in use; choose another")
