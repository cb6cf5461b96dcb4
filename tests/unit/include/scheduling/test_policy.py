"""What the policy on the control topic makes the scheduler do."""

from __future__ import annotations

from typing import Any

import pytest

from include.contracts.defaults import default_policy
from include.contracts.events import Lane, SharesEvent, State
from include.contracts.policy import PoolRule, Quota
from include.contracts.requests import ServiceClass, Tier
from include.contracts.workers import Hello
from include.scheduling.store import Table
from tests.unit.include.scheduling.harness import CELL, LEASE_S, MAX_ATTEMPTS, Desk, leases, route


def policy(desk: Desk, **fields: Any) -> None:
    base = default_policy(lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS)
    desk.control(base.model_copy(update={"at": desk.now, **fields}))


def bounds(high: float = 1e6, normal: float = 1e6, low: float = 1e6) -> dict[Lane, float]:
    return {Lane.HIGH: high, Lane.NORMAL: normal, Lane.LOW: low}


def test_a_filling_lane_degrades_then_refuses_and_says_both(desk: Desk) -> None:
    policy(desk, lane_bound_s=bounds(high=20.0))
    for number in range(40):
        desk.submit(f"r-{number}", tier=Tier.PRO, steps=8)
    first, middle, last = desk.last("r-0"), desk.last("r-9"), desk.last("r-39")
    assert (first.degraded, first.trace["outcome"]) == ((), "admitted")
    assert middle.trace["outcome"] == "admitted_degraded" and middle.trace["ladder_level"] >= 1
    assert "of 8 steps" in middle.degraded[0]
    assert last.state is State.REFUSED and last.reason is not None and (last.reason.retry_after_s or 0) > 0
    assert desk.scheduler.queued_s(Lane.HIGH) <= 20.0


def test_what_was_degraded_is_told_in_every_event_and_to_the_worker(desk: Desk) -> None:
    policy(desk, lane_bound_s=bounds(high=7.0))
    for number in range(3):
        desk.submit(f"r-{number}", tier=Tier.PRO, steps=8)
    desk.hello(slots=3)
    degraded = desk.last("r-2").degraded
    assert degraded and desk.leased("r-2").tasks[0].degraded == degraded
    desk.complete(desk.leased("r-2"))
    assert desk.last("r-2").state is State.COMPLETED and desk.last("r-2").degraded == degraded


def test_a_request_that_cannot_meet_its_deadline_any_more_wastes_no_device(desk: Desk) -> None:
    """It takes 30 s by the prior, a third of that at least; after 6 s of 15 less than that is left."""
    desk.submit("r-1", steps=120, deadline_at=desk.now + 15)
    desk.tick(6.0)
    assert desk.ends("r-1") == [State.EXPIRED]
    desk.hello()
    assert not leases(desk.decisions)


def test_one_that_could_never_meet_it_is_refused_at_once(desk: Desk) -> None:
    desk.submit("r-1", steps=120, deadline_at=desk.now + 5)
    reason = desk.last("r-1").reason
    assert desk.last("r-1").state is State.REFUSED
    assert reason is not None and reason.field == "deadline_at" and "takes 10.0 s at least" in reason.message


def test_a_micro_batch_stays_within_its_cost_budget(desk: Desk) -> None:
    policy(desk, batch_s=2.5)
    for number in range(4):
        desk.submit(f"r-{number}")
    desk.hello(max_batch=4)
    (lease,) = leases(desk.decisions)
    assert len(lease.tasks) == 2
    assert desk.last("r-0").trace["batch_bound"] == "cost budget"


def test_batches_that_do_not_pay_are_not_made(desk: Desk) -> None:
    desk.hello(max_batch=4)
    for number in range(12):
        desk.submit(f"r-{number}")
        desk.now += 1.0
        lease = leases(desk.decisions)[-1]
        usage = {"gpu_seconds": 1.0, "render_s": 1.0, "steps": 4}
        for task in lease.tasks:
            desk.complete(lease, task.request_id, usage=usage)
    for number in range(20, 24):
        desk.submit(f"r-{number}")
    for _ in range(2):
        desk.now += 1.0
        lease = leases(desk.decisions)[-1]
        for task in lease.tasks:
            desk.complete(lease, task.request_id, usage=usage)
    assert len(leases(desk.decisions)[-1].tasks) == 3
    for number in range(30, 33):
        desk.submit(f"r-{number}")
    desk.complete(leases(desk.decisions)[-1], usage=usage)
    assert len(leases(desk.decisions)[-1].tasks) == 1
    assert desk.last("r-31").trace["batch_bound"] == "learned: a larger one was not cheaper"


def test_a_lone_low_request_lingers_for_company_and_no_longer(desk: Desk) -> None:
    policy(desk, linger_s=2.0)
    desk.hello(max_batch=2)
    desk.submit("r-1", ServiceClass.BATCH)
    assert not leases(desk.decisions)
    desk.tick(1.0)
    assert not leases(desk.decisions)
    desk.tick(1.1)
    assert len(leases(desk.decisions)) == 1


def test_company_or_urgency_ends_the_lingering(desk: Desk) -> None:
    policy(desk, linger_s=5.0)
    desk.hello(slots=2, max_batch=2)
    desk.submit("r-1", ServiceClass.BATCH)
    desk.submit("r-2", ServiceClass.BATCH)
    assert [len(lease.tasks) for lease in leases(desk.decisions)] == [2]
    desk.submit("r-3", tier=Tier.PRO)
    assert len(leases(desk.decisions)) == 2


def test_a_request_waits_for_its_pool_while_others_go(desk: Desk) -> None:
    desk.hello()
    desk.submit("picky", pools=("spot",))
    desk.submit("easy")
    assert desk.states("picky") == [State.QUEUED] and State.PROCESSING in desk.states("easy")
    desk.worker(Hello(worker_id="s-0", incarnation="i-1", cell=CELL, pool="spot", at=desk.now, slots=1))
    assert desk.leased("picky").pool == "spot"


def test_a_pool_takes_what_its_rule_lets_it(desk: Desk) -> None:
    policy(desk, pools={"standard": PoolRule(tiers=(Tier.ENTERPRISE,))})
    desk.hello()
    desk.submit("free")
    desk.submit("paid", tier=Tier.ENTERPRISE)
    assert desk.states("free") == [State.QUEUED] and State.PROCESSING in desk.states("paid")


def test_a_batch_is_not_filled_with_what_may_not_render_there(desk: Desk) -> None:
    desk.submit("easy")
    desk.submit("picky", pools=("spot",))
    desk.submit("other")
    desk.hello(max_batch=4)
    assert {task.request_id for task in leases(desk.decisions)[0].tasks} == {"easy", "other"}


def test_a_cold_worker_looks_for_what_it_has_loaded_within_bounds(desk: Desk) -> None:
    """The head waits while others of about the same turn go before it, a few times and no more."""
    desk.control(route("later"))
    desk.submit("cold", tenant="a", model="later")
    for number in range(8):
        desk.submit(f"warm-{number}", tenant=f"t-{number}")
    desk.hello(slots=1, warm_models=("emoji/1",))
    order = []
    for _ in range(6):
        lease = leases(desk.decisions)[-1]
        order.append(lease.tasks[0].request_id)
        desk.complete(lease)
    assert order.index("cold") == desk.scheduler._cell.tuning.affinity_passes
    assert "warm for this, cold for cold" in desk.last("warm-0").trace.get("why_worker", "") or order[0] == "warm-0"


def test_tenants_of_a_lane_are_served_by_their_weights(desk: Desk) -> None:
    quotas = {tier: Quota(rate=1e5, burst_s=1e6, max_queued=1000, max_running=1000) for tier in Tier}
    quotas[Tier.ENTERPRISE] = quotas[Tier.ENTERPRISE].model_copy(update={"weight": 3.0})
    policy(desk, quotas=quotas)
    for number in range(40):
        desk.submit(f"pro-{number}", tenant="pro", tier=Tier.PRO)
        desk.submit(f"big-{number}", tenant="big", tier=Tier.ENTERPRISE)
    desk.hello(slots=40)
    served = [lease.tasks[0].tenant for lease in leases(desk.decisions)]
    assert abs(served.count("big") - 30) <= 1


def test_shares_move_with_the_waits_and_the_move_is_told(desk: Desk) -> None:
    policy(desk, lane_objective_s={Lane.HIGH: 5.0, Lane.NORMAL: 10.0, Lane.LOW: 1e6})
    desk.tick()
    desk.submit("r-1")
    desk.tick(60.0)
    moves = [one for one in desk.decisions if isinstance(one, SharesEvent)]
    assert moves and moves[0].after[Lane.NORMAL] > moves[0].before[Lane.NORMAL]
    assert "normal waits 60 s against 10 s" in moves[0].reason
    assert desk.scheduler.share(Lane.NORMAL) == moves[-1].after[Lane.NORMAL]
    desk.tick(5.0)
    desk.restart()
    desk.tick(0.1)
    assert desk.scheduler.share(Lane.NORMAL) > 0.15


def test_an_estimate_comes_with_a_band_and_its_calibration_is_measured(desk: Desk) -> None:
    desk.hello()
    for number in range(5):
        desk.submit(f"r-{number}")
    estimate = desk.last("r-4").estimate
    assert estimate is not None and estimate.low_s <= estimate.wait_s <= estimate.high_s
    assert desk.last("r-4").position == 4
    assert 0.0 <= desk.scheduler.estimate_error() <= 0.8


def test_a_queue_of_the_release_before_is_taken_over(desk: Desk) -> None:
    """Its entries have no format number, pools, weight or outcome; leases have no size."""
    desk.hello()
    desk.submit("held")
    desk.submit("waits", tier=Tier.PRO)
    for name, text in list(desk.store.items(Table.REQUESTS)):
        _, service_class, at, seq, lane, model, predicted, _, _, _, _, task, raw = text.split("\t", 12)
        desk.store.put(Table.REQUESTS, name, "\t".join((service_class, at, seq, lane, model, predicted, task, raw)))
    for name, text in list(desk.store.items(Table.LEASES)):
        desk.store.put(Table.LEASES, name, text.replace('"size":1,"predicted_s":1.0,', ""))
    for table in (Table.FAIRNESS, Table.LEARNED):
        for name, _ in list(desk.store.items(table)):
            desk.store.remove(table, name)
    desk.restart()
    desk.credit(slots=2)
    assert State.PROCESSING in desk.states("waits")
    for name in ("held", "waits"):
        desk.complete(desk.leased(name))
        assert desk.ends(name) == [State.COMPLETED]


@pytest.mark.parametrize("queued", [10_000])
def test_ten_thousand_queued_come_back_as_the_same_queue(queued: int) -> None:
    desk = Desk()
    for number in range(queued):
        tier, service_class = list(Tier)[number % 3], list(ServiceClass)[number % 2]
        desk.submit(f"r-{number}", service_class, tier=tier, tenant=f"t-{number % 17}", steps=1 + number % 5)
    desk.hello(slots=50)
    desk.tick(0.1)
    expected = [[entry.id for entry in desk.scheduler._cell.lanes[lane].entries()] for lane in Lane]
    twin = Desk(desk.store)
    twin.now = desk.now
    twin.tick()
    assert [[entry.id for entry in twin.scheduler._cell.lanes[lane].entries()] for lane in Lane] == expected
    held = [lease.lease_id for lease in leases(desk.decisions)]
    for one in (desk, twin):
        one.decisions.clear()
        one.credit(slots=64, held=held)
    assert leases(twin.decisions)
    assert [lease.tasks for lease in leases(twin.decisions)] == [lease.tasks for lease in leases(desk.decisions)]
