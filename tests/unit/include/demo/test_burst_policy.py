from __future__ import annotations

import pytest

from include.config import Settings
from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.contracts.requests import ServiceClass, Tier
from include.demo import burst_policy
from include.demo.burst_plan import Capacity
from include.routing.catalog import Catalog
from tests.unit.include.demo.rehearsal import DEFAULTS

CAPACITY = Capacity(workers=2, unit_s=0.3, defaults=DEFAULTS)


def test_bounds_and_quotas_grow_with_the_workers() -> None:
    small, large = (burst_policy.burst_policy(default_policy(), Capacity(workers=count, unit_s=0.3, defaults=DEFAULTS)) for count in (1, 4))
    for lane in Lane:
        assert large.lane_bound_s[lane] == 4 * small.lane_bound_s[lane] < default_policy().lane_bound_s[lane]
    assert large.quotas[Tier.FREE].rate == pytest.approx(4 * small.quotas[Tier.FREE].rate)
    assert large.quotas[Tier.PRO] == default_policy().quotas[Tier.PRO]


@pytest.mark.parametrize(("units", "lane"), [(1.0, Lane.HIGH), (6.0, Lane.NORMAL)])
def test_what_costs_much_does_not_hold_up_what_costs_little(units: float, lane: Lane) -> None:
    catalog = Catalog(burst_policy.burst_policy(default_policy(), CAPACITY), "emoji")
    assert catalog.lane(ServiceClass.REALTIME, Tier.PRO, units * CAPACITY.unit_s) is lane
    assert catalog.lane(ServiceClass.REALTIME, Tier.ENTERPRISE, units * CAPACITY.unit_s) is Lane.HIGH


def test_what_the_burst_does_not_change_stays() -> None:
    base = default_policy(lease_s=12.0, max_attempts=2)
    found = burst_policy.burst_policy(base, CAPACITY)
    assert (found.lease_s, found.max_attempts, found.quality_floors, found.ladder) == (12.0, 2, base.quality_floors, base.ladder)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Policy]:
    """What was sent to the control topic."""
    sent: list[Policy] = []
    monkeypatch.setattr(burst_policy, "publish", lambda settings, policy: sent.append(policy))
    return sent


def test_the_policy_of_before_comes_back_when_the_act_fails(
    published: list[Policy], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = default_policy(lease_s=7.0).model_copy(update={"by": "an operator", "at": 5.0})
    monkeypatch.setattr(burst_policy, "current_policy", lambda settings: before)
    with pytest.raises(RuntimeError), burst_policy.policy_for_burst(settings, CAPACITY) as policy:
        raise RuntimeError
    assert published[0] is policy
    assert published[1].model_copy(update={"at": 5.0}) == before
    assert published[1].at > before.at


@pytest.mark.parametrize("left", [None, burst_policy.burst_policy(default_policy(), CAPACITY)])
def test_without_a_policy_of_somebody_elses_the_built_in_one_stands(
    left: Policy | None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst_policy, "current_policy", lambda settings: left)
    assert burst_policy.standing_policy(settings) == default_policy(lease_s=settings.lease_s, max_attempts=settings.max_attempts)
