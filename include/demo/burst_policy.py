"""The policy of the burst: bounds so small that a burst of seconds fills them, and back to what held before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from include.client.policy import current_policy, publish
from include.config import Settings
from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.contracts.policy import LaneRule, Quota
from include.contracts.requests import ServiceClass, Tier
from include.demo.burst_plan import Capacity

BY = "atelier demo, the burst"
#: Realtime requests of tier pro that cost more units than this go to the normal lane.
LARGE = 3.0
#: Device seconds that a lane may hold, by worker: seconds of work.
BOUNDS_S = {Lane.HIGH: 4.0, Lane.NORMAL: 7.0, Lane.LOW: 4.0}
#: Once they moved by what the low lane can borrow, the high lane can still have half of the time, which is all that the burst asks of it.
FLOORS = {Lane.HIGH: 0.5, Lane.NORMAL: 0.15, Lane.LOW: 0.12}
OBJECTIVES_S = {Lane.HIGH: 5.0, Lane.NORMAL: 7.0, Lane.LOW: 7.0}
DEGRADE_FROM = 0.3
#: What a free tenant may use, as a share of all workers; saved up for so many seconds.
FREE_RATE, FREE_SAVED_S = 0.3, 4.0
#: Units of a micro-batch at most. A request of the high lane waits for what renders already, so this is what its wait is made of.
BATCH_UNITS = 4.0


def burst_policy(base: Policy, capacity: Capacity) -> Policy:
    """Like ``base`` but for bounds, objectives and quotas that suit these workers and a burst of seconds."""
    workers = capacity.workers
    free = base.quotas[Tier.FREE].model_copy(update={"rate": FREE_RATE * workers, "burst_s": FREE_RATE * workers * FREE_SAVED_S})
    changes = {
        "by": BY,
        "at": time.time(),
        "lanes": _lanes(base, capacity),
        "lane_bound_s": {lane: bound * workers for lane, bound in BOUNDS_S.items()},
        "lane_floor": dict(FLOORS),
        "lane_objective_s": dict(OBJECTIVES_S),
        "quotas": {**base.quotas, Tier.FREE: Quota.model_validate(free.model_dump())},
        "degrade_from": DEGRADE_FROM,
        "batch_s": BATCH_UNITS * capacity.unit_s,
        "linger_s": 0.0,
    }
    return Policy.model_validate({**base.model_dump(), **changes})


def _lanes(base: Policy, capacity: Capacity) -> tuple[LaneRule, ...]:
    kept = [rule for rule in base.lanes if (rule.service_class, rule.tier) != (ServiceClass.REALTIME, Tier.PRO)]
    pro = {"service_class": ServiceClass.REALTIME, "tier": Tier.PRO}
    usual = LaneRule(**pro, lane=Lane.HIGH, max_gpu_s=LARGE * capacity.unit_s)
    return (*kept, usual, LaneRule(**pro, lane=Lane.NORMAL))


def standing_policy(settings: Settings) -> Policy:
    """What holds now; the built-in one where nobody has sent another, or where a demo that was killed left its own."""
    found = current_policy(settings)
    if found is None or found.by == BY:
        return default_policy(lease_s=settings.lease_s, max_attempts=settings.max_attempts)
    return found


@contextmanager
def policy_for_burst(settings: Settings, capacity: Capacity) -> Iterator[Policy]:
    """The burst's policy while the body runs, what held before afterwards, also when the body raises.

    The router reads it within milliseconds. What it may take in before that is the first request or two, and costs nothing.
    """
    before = standing_policy(settings)
    policy = burst_policy(before, capacity)
    publish(settings, policy)
    try:
        yield policy
    finally:
        publish(settings, before.model_copy(update={"at": time.time()}))
