"""The wait that the scheduler's guarantees allow a request when it is admitted."""

from __future__ import annotations

from collections import defaultdict
from math import inf

from include.contracts.events import Lane
from include.contracts.requests import Tier
from include.simulation.scenario import Scenario

Flow = tuple[Lane, str]

#: The guarantees hold in predicted device seconds; this much more are real ones taken to be, the band that predictions come with.
PREDICTION_ERROR = 1.1


class Promises:
    """From what is guaranteed alone: the lane's floor of the fleet, and the tenant's weighted share of that.

    A request waits at most until its tenant's own queue, itself included, was served at that rate. To that come the rounding errors of the
    fair queue and of the lanes (one request of the largest seen for each tenant of the lane, at the lane's rate), what a tenant's
    later requests may take out of turn, and the two micro-batches that a worker may hold before it. The scenario's tenants count
    from the start; another one from its first request on, so it makes later promises longer, not earlier ones.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._policy, self._workers = scenario.policy, scenario.workers
        self._queued_s: dict[Flow, float] = defaultdict(float)
        self._weights: dict[Lane, dict[str, float]] = {lane: {} for lane in Lane}
        lanes = scenario.lanes()
        for tenant in scenario.tenants:
            self._weights[lanes[tenant.service_class, tenant.tier]][tenant.name] = self._policy.quotas[tenant.tier].weight
        self._largest_s = 0.0
        self._open: dict[str, tuple[Flow, float]] = {}

    def queued(self, request_id: str, lane: Lane, tenant: str, tier: Tier, predicted_s: float) -> float:
        """Note a request that went into its lane; returns the seconds until its render begins at the latest, infinite without a floor."""
        flow = (lane, tenant)
        self._open[request_id] = (flow, predicted_s)
        self._queued_s[flow] += predicted_s
        self._weights[lane].setdefault(tenant, self._policy.quotas[tier].weight)
        self._largest_s = max(self._largest_s, predicted_s)
        weights = self._weights[lane]
        lane_rate = self._policy.lane_floor[lane] * self._workers
        if not lane_rate:
            return inf
        own_rate = lane_rate * weights[tenant] / sum(weights.values())
        rounding_s = (len(weights) + 1) * self._largest_s / lane_rate
        out_of_turn_s = self._policy.batch_s / lane_rate
        return PREDICTION_ERROR * (self._queued_s[flow] / own_rate + out_of_turn_s + rounding_s) + 2 * self._policy.batch_s

    def left(self, request_id: str) -> None:
        """It was dispatched, or is over."""
        found = self._open.pop(request_id, None)
        if found is not None:
            flow, predicted_s = found
            self._queued_s[flow] -= predicted_s
