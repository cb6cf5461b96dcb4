"""Whether batch requests may still come in, or are to wait where they are."""

from __future__ import annotations

from include.contracts.control import Policy
from include.contracts.events import Lane
from include.contracts.requests import ServiceClass
from include.scheduling.cell import Cell

#: A closed lane opens again below this share of its limit, so that the source is not stopped and started with every request.
REOPENS_AT = 0.9
#: Of a lane that serves realtime requests too, batch requests get this share of what may wait there before quality suffers.
SHARED = 0.5


class BatchRoom:
    """Open while the batch requests of each lane that the policy gives them take less than the lane's limit.

    The limit is the lane's bound. In a lane with realtime requests it is half of what may wait before the ladder degrades them: batch
    requests, which can wait anywhere, then never cost a realtime one its quality or its place. There only the batch part counts, because
    realtime requests that keep such a lane full would otherwise keep all batch requests out, those of the other lanes with their
    guaranteed floors as well.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._open = True
        self._policy: Policy | None = None
        self._limits: dict[Lane, float] = {}
        self._shared: frozenset[Lane] = frozenset()

    def is_open(self) -> bool:
        if self._cell.catalog.policy is not self._policy:
            self._adopt(self._cell.catalog.policy)
        share = 1.0 if self._open else REOPENS_AT
        self._open = all(self._is_below(lane, share * limit) for lane, limit in self._limits.items())
        return self._open

    def _adopt(self, policy: Policy) -> None:
        self._policy = policy
        batch = self._cell.catalog.lanes_of(ServiceClass.BATCH)
        self._shared = batch & self._cell.catalog.lanes_of(ServiceClass.REALTIME)
        part = SHARED * policy.degrade_from
        self._limits = {lane: policy.lane_bound_s[lane] * (part if lane in self._shared else 1.0) for lane in batch}

    def _is_below(self, lane: Lane, limit: float) -> bool:
        queue = self._cell.lanes[lane]
        return (queue.batch_s if lane in self._shared else queue.queued_s) < limit
