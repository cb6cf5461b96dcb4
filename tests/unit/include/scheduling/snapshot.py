"""Everything that must survive a restart, in a form to compare."""

from __future__ import annotations

from typing import Any

from include.contracts.events import Lane
from include.scheduling.records import Entry, Phase
from include.scheduling.scheduler import Scheduler


def snapshot(scheduler: Scheduler) -> dict[str, Any]:
    cell, intake = scheduler._cell, scheduler._intake
    return {
        "entries": {name: _entry(entry) for name, entry in cell.entries.items()},
        "leases": {name: (lease.worker_id, lease.incarnation, sorted(lease.entries)) for name, lease in cell.leases.items()},
        "queued_s": {lane: round(_waiting_s(scheduler, lane), 6) for lane in Lane},
        "ids": {name: cell.ids.owner(name) for name in cell.ids._ids},
        "cancels": dict(intake._cancels),
        "routes": dict(cell.catalog._routes),
        "scenarios": dict(cell.catalog._scenarios),
        "policy": cell.catalog.policy,
    }


def _entry(entry: Entry) -> tuple[Any, ...]:
    # What is parked goes back into its lane and is parked again when its turn comes.
    phase = Phase.QUEUED if entry.phase is Phase.PARKED else entry.phase
    lease_id = entry.lease.id if entry.lease else None
    attempts = (entry.dispatches, entry.failures, entry.not_before, entry.last_worker, phase is Phase.QUEUED and entry.alone)
    return (phase, entry.lane, entry.task, entry.predicted_s, entry.accepted_at, entry.seq, attempts, lease_id, entry.raw)


def _waiting_s(scheduler: Scheduler, lane: Lane) -> float:
    waiting = [entry for entry in scheduler._cell.entries.values() if entry.lane is lane and entry.phase in (Phase.QUEUED, Phase.PARKED)]
    return sum(entry.predicted_s for entry in waiting)
