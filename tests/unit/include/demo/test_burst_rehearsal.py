"""The planned burst under its policy, against the scheduler itself: what the act is there to show must be there to be seen."""

from __future__ import annotations

import pytest

from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.demo.burst import Burst
from include.demo.burst_fates import held_back
from include.demo.burst_judging import high_lane
from include.demo.statistics import percentile
from tests.unit.include.demo.rehearsal import Rehearsal


def test_all_that_was_admitted_completed_within_a_minute(burst: Burst) -> None:
    assert {fate.state for fate in burst.fates} == {State.COMPLETED, State.REFUSED}
    assert burst.seconds - burst.sending_s < 60
    assert held_back(burst.fates) == 0


def test_the_high_lane_stays_flat(burst: Burst) -> None:
    high = high_lane(burst, [0.1])
    assert high.p90_s is not None and high.p90_s < 2.0 < high.bound_s
    halves = [
        [fate.wait_s or 0.0 for fate in burst.fates if fate.lane is Lane.HIGH and (fate.request.at_s < burst.sending_s / 2) is first]
        for first in (True, False)
    ]
    assert (percentile(halves[1], 0.5) or 0) < (percentile(halves[0], 0.5) or 0) + 1


def test_some_are_degraded_and_none_who_may_not_be(burst: Burst) -> None:
    degraded = [fate for fate in burst.fates if fate.degraded]
    assert len(degraded) > 20
    assert all(fate.request.may_degrade and 0.5 <= (fate.steps_share or 0) < 1 for fate in degraded)
    assert any(not fate.request.may_degrade and fate.state is State.COMPLETED for fate in burst.fates)


def test_batch_requests_are_deferred_and_never_refused_for_lack_of_room(burst: Burst) -> None:
    assert sum(fate.deferred for fate in burst.fates) > 30
    assert all(fate.refusal is None or fate.request.planned.service_class == "realtime" for fate in burst.fates)


def test_the_greedy_tenant_runs_into_its_own_quota_and_others_into_a_full_lane(burst: Burst) -> None:
    limited = {fate.request.planned.tenant for fate in burst.fates if fate.refusal and fate.refusal.code is ReasonCode.RATE_LIMITED}
    crowded = {fate.request.planned.tenant for fate in burst.fates if fate.refusal and fate.refusal.code is ReasonCode.OVERLOADED}
    assert limited == {"initech"}
    assert len(crowded) >= 3
    assert all(fate.refusal.retry_after_s is not None for fate in burst.fates if fate.refusal)


def test_shares_move_to_the_low_lane(burst: Burst) -> None:
    assert burst.moves and burst.moves[0].at - burst.started_at < burst.sending_s
    assert burst.moves[-1].after[Lane.LOW] > burst.policy.lane_floor[Lane.LOW]


@pytest.mark.parametrize(("unit_s", "slower"), [(0.1, 1.0), (0.6, 1.0), (0.3, 1.5)])
def test_on_other_machines_and_when_measured_too_well_the_bound_holds(unit_s: float, slower: float) -> None:
    burst = Rehearsal(10, unit_s, slower).run()
    high = high_lane(burst, [0.1])
    assert high.p90_s is not None and high.p90_s < high.bound_s
    assert {fate.state for fate in burst.fates} == {State.COMPLETED, State.REFUSED}
