from __future__ import annotations

from dataclasses import replace

import pytest

from include.contracts.events import Lane, State
from include.contracts.requests import ServiceClass, Tier
from include.simulation.ours import OwnPolicy
from include.simulation.policy import Admitted, Assigned, Ended, SharesMoved, WorkerSpec
from include.simulation.promises import PREDICTION_ERROR, Promises
from include.simulation.scenario import POOL, START, mixed
from tests.unit.include.simulation.builders import arrival, small

WORKER = WorkerSpec(id="w-0", pool=POOL, slots=2, max_batch=1, warm=("studio/1",))


def test_a_request_goes_through_the_scheduler_to_its_one_end():
    policy = OwnPolicy(small())
    assert policy.join(WORKER, START) == [SharesMoved(small().policy.lane_floor)]
    admitted, lease = policy.submit(arrival("a"), START)
    assert isinstance(admitted, Admitted) and admitted.bound_s is not None
    assert isinstance(lease, Assigned) and (lease.worker_id, lease.model) == ("w-0", "studio/1")
    assert policy.started(lease, START + 0.1) == []
    assert policy.completed(lease, 1.0, START + 1.0) == [Ended("a", State.COMPLETED)]
    assert policy.scheduler.stats.outcomes == {State.COMPLETED: 1}


def test_heartbeats_keep_a_worker_live_and_its_leases():
    policy = OwnPolicy(small())
    policy.join(WORKER, START)
    _, lease = policy.submit(arrival("a"), START)
    assert isinstance(lease, Assigned)
    for beat in range(1, 10):
        assert policy.alive(WORKER, (lease.lease_id,), START + 10.0 * beat) == []
    assert policy.scheduler.live_workers(START + 90.0) == 1
    assert policy.completed(lease, 95.0, START + 95.0) == [Ended("a", State.COMPLETED)]


def test_a_deadline_that_passes_in_the_queue_ends_the_request():
    policy = OwnPolicy(small())
    policy.submit(arrival("a", deadline_at=START + 5.0), START)
    assert policy.tick(START + 6.0) == [Ended("a", State.EXPIRED)]


def test_a_refusal_says_when_to_come_back():
    policy = OwnPolicy(small())
    ends = [end for number in range(200) for end in policy.submit(arrival(f"r-{number}", allow_degradation=False), START)]
    refused = [end for end in ends if isinstance(end, Ended)]
    assert refused and all(end.state is State.REFUSED and end.retry_after_s for end in refused)


def test_a_batch_request_is_taken_while_there_is_room():
    policy = OwnPolicy(small())
    assert policy.batch_open(START)
    (admitted,) = policy.submit(arrival("a", service_class=ServiceClass.BATCH), START)
    assert isinstance(admitted, Admitted)


def test_a_promise_covers_the_tenants_own_queue_at_its_guaranteed_rate():
    scenario = replace(mixed(workers=10), tenants=())
    promises = Promises(scenario)
    floor = scenario.policy.lane_floor[Lane.LOW] * 10
    held = 2 * scenario.policy.batch_s + PREDICTION_ERROR * scenario.policy.batch_s / floor
    own, rounding = PREDICTION_ERROR * 2.0 / floor, PREDICTION_ERROR * 2.0 / floor
    alone = promises.queued("a", Lane.LOW, "acme", Tier.FREE, 2.0)
    assert alone == pytest.approx(own + 2 * rounding + held)
    assert promises.queued("b", Lane.LOW, "acme", Tier.FREE, 2.0) == pytest.approx(alone + own)
    assert promises.queued("c", Lane.LOW, "other", Tier.FREE, 2.0) == pytest.approx(2 * own + 3 * rounding + held)
    promises.left("b")
    assert promises.queued("d", Lane.LOW, "acme", Tier.FREE, 2.0) == pytest.approx(2 * 2 * own + 3 * rounding + held)


def test_tenants_of_the_scenario_count_before_they_have_sent_anything():
    scenario = mixed(workers=10)
    weights = [
        scenario.policy.quotas[tenant.tier].weight
        for tenant in scenario.tenants
        if scenario.lanes()[tenant.service_class, tenant.tier] is Lane.LOW
    ]
    own_rate = scenario.policy.lane_floor[Lane.LOW] * 10 / sum(weights)
    assert Promises(scenario).queued("a", Lane.LOW, "pearl", Tier.FREE, 2.0) > 2.0 / own_rate
