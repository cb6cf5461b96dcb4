"""What waiting lanes are guaranteed, kept beside the scheduler from its leases and the policy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from include.contracts.dispatch import Lease
from include.contracts.events import Lane
from include.scheduling.records import Entry
from include.scheduling.scheduler import Scheduler


@dataclass
class Debt:
    """Of one lane, since it began to wait. Device seconds, as predicted."""

    owed: float = 0.0
    largest_s: float = 0.0  #: of the micro-batches that were dispatched, its own or others'
    head_s: float = 0.0  #: of its requests
    floor: float = 0.0  #: the highest it had meanwhile: what it was owed under that one stays owed
    behind_s: float = 0.0  #: device seconds in which a lower lane may have been paid first


class FloorAccount:
    """While something of a lane waits that might go where a lease went, the lease owes the lane its floor's share.

    The debt is bounded, which is that no lane starves. The low lane is served as soon as it is owed its next request, so its debt stays
    below its largest one and the share of one micro-batch. The normal lane may also have to wait until the low lane was paid.
    """

    def __init__(self) -> None:
        self._debts = {lane: Debt() for lane in Lane}
        self._waiting: dict[Lane, dict[str, Entry]] = {}
        self._floors: Mapping[Lane, float] = {}
        self._paused: set[str] = set()

    def begin(self, scheduler: Scheduler) -> None:
        """Before something happens."""
        self._waiting, self._floors = _waiting(scheduler), scheduler._cell.catalog.policy.lane_floor
        self._paused = set(scheduler._cell.lanes._paused)

    def settle(self, scheduler: Scheduler, given: list[Lease]) -> None:
        """It happened, and these leases were given."""
        self._paused |= scheduler._cell.lanes._paused
        after, floors = _waiting(scheduler), scheduler._cell.catalog.policy.lane_floor
        floor = {lane: min(self._floors[lane], floors[lane]) for lane in Lane}
        for lease in given:
            served = [entry for task in lease.tasks if (entry := scheduler._cell.entries.get(task.request_id)) is not None]
            for lane in Lane:
                before = self._waiting[lane]
                waited = any(name in after[lane] and lease.pool in entry.pools for name, entry in before.items() if self._may_go(entry))
                self._book(lane, floor[lane], served, {**before, **after[lane]} if waited else {})
        low, normal = self._debts[Lane.LOW], self._debts[Lane.NORMAL]
        low_bound = low.head_s + low.floor * low.largest_s
        assert low.owed <= low_bound + 1e-6, low
        if normal.head_s:
            normal.behind_s = max(normal.behind_s, low_bound / (1 - low.floor))
        normal_bound = normal.head_s + normal.floor * (2 * normal.largest_s + normal.behind_s)
        assert normal.owed <= normal_bound + 1e-6, normal

    def _may_go(self, entry: Entry) -> bool:
        """Not of a tenant that may run no more."""
        return entry.tenant not in self._paused

    def _book(self, lane: Lane, floor: float, served: list[Entry], waiting: dict[str, Entry]) -> None:
        if not waiting:
            self._debts[lane] = Debt()
            return
        debt, own = self._debts[lane], [entry.predicted_s for entry in served if entry.lane is lane]
        total = sum(entry.predicted_s for entry in served)
        debt.owed = max(0.0, debt.owed + floor * total - sum(own))
        debt.floor = max(debt.floor, floor)
        debt.largest_s = max(debt.largest_s, total)
        debt.head_s = max(debt.head_s, *own, *(entry.predicted_s for entry in waiting.values()))


def _waiting(scheduler: Scheduler) -> dict[Lane, dict[str, Entry]]:
    return {lane: {entry.id: entry for entry in scheduler._cell.lanes[lane].entries()} for lane in Lane}
