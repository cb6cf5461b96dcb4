from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.control import TenantQuota
from include.contracts.errors import ReasonCode
from include.contracts.events import State
from include.contracts.policy import Quota
from include.contracts.requests import ServiceClass
from include.scheduling.records import Phase
from tests.unit.include.scheduling.harness import START, Desk, letters

GENEROUS = {"rate": 1000.0, "burst_s": 1e6, "max_queued": 1000, "max_running": 1000}


def quota(desk: Desk, tenant: str = "acme", **fields: Any) -> None:
    desk.control(TenantQuota(tenant=tenant, at=desk.now, quota=Quota(**{**GENEROUS, **fields})))


def test_a_tenant_over_its_rate_is_told_when_to_come_back(desk: Desk) -> None:
    """Each request is one device second."""
    quota(desk, rate=0.5, burst_s=2.0)
    for name in ("r-1", "r-2", "r-3"):
        desk.submit(name)
    assert [desk.last(name).state for name in ("r-1", "r-2", "r-3")] == [State.QUEUED, State.QUEUED, State.REFUSED]
    reason = desk.last("r-3").reason
    assert reason is not None and (reason.code, reason.retry_after_s) == (ReasonCode.RATE_LIMITED, 2.0)
    assert len(letters(desk.decisions)) == 1
    desk.tick(reason.retry_after_s)
    desk.submit("r-3")
    assert desk.last("r-3").state is State.QUEUED


def test_others_are_not_concerned(desk: Desk) -> None:
    quota(desk, rate=0.1, burst_s=1.0)
    desk.submit("r-1")
    desk.submit("r-2")
    desk.submit("o-1", tenant="other")
    assert (desk.last("r-2").state, desk.last("o-1").state) == (State.REFUSED, State.QUEUED)


def test_what_costs_more_than_the_burst_is_taken_from_a_full_bucket_and_leaves_a_debt(desk: Desk) -> None:
    quota(desk, rate=1.0, burst_s=2.0)
    desk.submit("r-1", steps=20)
    desk.submit("r-2")
    reason = desk.last("r-2").reason
    assert desk.last("r-1").state is State.QUEUED
    assert reason is not None and reason.retry_after_s == pytest.approx(4.0)


def test_a_completion_gives_back_what_was_predicted_too_high(desk: Desk) -> None:
    quota(desk, rate=0.001, burst_s=1.0)
    desk.hello()
    desk.submit("r-1")
    desk.complete(desk.leased("r-1"), usage={"gpu_seconds": 0.25, "render_s": 0.25, "steps": 4})
    desk.submit("r-2", steps=20)
    reason = desk.last("r-2").reason
    assert reason is not None and "0.8 of them left" in reason.message


def test_no_more_wait_than_the_quota_says(desk: Desk) -> None:
    quota(desk, max_queued=2)
    for name in ("r-1", "r-2", "r-3"):
        desk.submit(name)
    reason = desk.last("r-3").reason
    assert reason is not None and reason.code is ReasonCode.RATE_LIMITED and "2 requests waiting" in reason.message


def test_no_more_run_than_the_quota_says_and_others_go_before(desk: Desk) -> None:
    quota(desk, max_running=1)
    for name in ("r-1", "r-2"):
        desk.submit(name)
    desk.submit("o-1", tenant="other")
    desk.hello(slots=3)
    assert desk.states("r-2") == [State.QUEUED]
    assert State.PROCESSING in desk.states("r-1") and State.PROCESSING in desk.states("o-1")
    desk.complete(desk.leased("r-1"))
    assert State.PROCESSING in desk.states("r-2")


def test_a_cap_holds_over_a_restart(desk: Desk) -> None:
    quota(desk, max_running=1)
    desk.hello(slots=3)
    for name in ("r-1", "r-2"):
        desk.submit(name)
    desk.restart()
    desk.credit(slots=3)
    assert desk.scheduler.entries()["r-2"].phase is Phase.QUEUED
    desk.complete(desk.leased("r-1"))
    assert desk.scheduler.entries()["r-2"].phase is Phase.LEASED


def test_a_bucket_outlives_a_restart(desk: Desk) -> None:
    quota(desk, rate=0.001, burst_s=1.0)
    desk.submit("r-1")
    desk.tick(10.0)
    desk.restart()
    desk.submit("r-2")
    assert desk.last("r-2").state is State.REFUSED


def test_a_quota_taken_back_leaves_the_tiers(desk: Desk) -> None:
    quota(desk, rate=0.001, burst_s=0.1)
    desk.submit("r-1")
    desk.control(TenantQuota(tenant="acme", at=desk.now))
    desk.tick(1.0)
    desk.submit("r-2")
    assert desk.last("r-2").state is State.QUEUED


def test_idle_tenants_with_a_full_bucket_are_forgotten(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.complete(desk.leased("r-1"))
    desk.tick(20.0)
    assert not desk.scheduler._cell.quotas._uses


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 12), st.sampled_from(ServiceClass)), max_size=40))
def test_admissions_stay_within_burst_and_rate(arrivals: list[tuple[float, int, ServiceClass]]) -> None:
    """Over t seconds at most burst + rate * t, plus one request that leaves a debt."""
    desk = Desk()
    quota(desk, rate=0.8, burst_s=4.0)
    admitted, largest = 0.0, 0.0
    for number, (gap, steps, service_class) in enumerate(arrivals):
        desk.now += gap
        desk.submit(f"r-{number}", service_class, steps=steps)
        if desk.last(f"r-{number}").state is State.QUEUED:
            cost = desk.scheduler.entries()[f"r-{number}"].predicted_s
            admitted, largest = admitted + cost, max(largest, cost)
    assert admitted <= 4.0 + 0.8 * (desk.now - START) + largest + 1e-6
