from __future__ import annotations

from dataclasses import replace

import pytest

from include.autoscale.sizing import Demand, Need, PoolNow, needed, share_out
from include.contracts.events import Lane
from tests.unit.include.autoscale.builders import OBJECTIVES, rule, snapshot


def need(*demands: Demand, now: PoolNow | None = None, **changes: object) -> Need:
    return needed(demands, now or PoolNow(), rule(**changes), OBJECTIVES)


def test_nothing_needs_nobody() -> None:
    assert need().whole == 0
    assert need(Demand(lane=Lane.LOW)).whole == 0


def test_arrivals_are_kept_up_with_at_the_target() -> None:
    found = need(Demand(lane=Lane.HIGH, rate=3.0), target=0.75)
    assert found.workers == pytest.approx(4.0)
    assert "3.00 device seconds arrive a second" in found.why and "75 %" in found.why


def test_a_little_more_than_a_whole_number_starts_nobody() -> None:
    assert need(Demand(lane=Lane.HIGH, rate=3.05), target=0.75).whole == 4
    assert need(Demand(lane=Lane.HIGH, rate=3.1), target=0.75).whole == 5


def test_one_request_that_waits_is_enough_for_a_worker() -> None:
    assert need(Demand(lane=Lane.LOW, waiting_s=0.01)).whole == 1
    assert need(Demand(lane=Lane.LOW, rate=0.01)).whole == 0


def test_a_backlog_is_cleared_by_workers_that_must_first_start() -> None:
    """Ten seconds to start, ten to work: 100 device seconds need ten new workers, and those that run take 20 each of it."""
    waits = Demand(lane=Lane.HIGH, waiting_s=100.0)
    assert need(waits).workers == pytest.approx(10.0)
    assert need(waits, now=PoolNow(running=2)).workers == pytest.approx(2 + 6)
    assert need(waits, now=PoolNow(running=2, in_flight_s=10.0)).workers == pytest.approx(2 + 7)


def test_workers_that_are_starting_are_part_of_what_is_needed() -> None:
    waits = Demand(lane=Lane.HIGH, waiting_s=100.0)
    assert need(waits, now=PoolNow(starting=6)).workers == need(waits).workers


def test_workers_that_will_be_there_soon_do_more_than_new_ones() -> None:
    """Within 20 seconds: new ones render for 10 of them, two that come in 5 seconds for 15 each."""
    waits = Demand(lane=Lane.HIGH, waiting_s=100.0)
    assert need(waits, now=PoolNow(starting=2, coming_in_s=(5.0, 5.0))).workers == pytest.approx(2 + 7)
    assert need(waits, now=PoolNow(starting=2, coming_in_s=(5.0,))).workers == pytest.approx(2 + 7.5)
    assert need(Demand(lane=Lane.HIGH, waiting_s=15.0), now=PoolNow(starting=3, coming_in_s=(2.0, 5.0, 8.0))).whole == 1


def test_a_burst_is_kept_up_with_while_it_lasts_and_what_it_still_brings_is_part_of_the_backlog() -> None:
    calm = Demand(lane=Lane.HIGH, rate=1.0, waiting_s=100.0)
    assert need(Demand(lane=Lane.HIGH, rate=1.0, burst=5.0), target=0.75).workers == pytest.approx(8.0)
    assert need(replace(calm, surge_s=50.0)).workers == pytest.approx(need(calm).workers + 5.0)


def test_a_lane_with_time_needs_fewer_than_one_without() -> None:
    urgent, patient = Demand(lane=Lane.HIGH, waiting_s=300.0), Demand(lane=Lane.LOW, waiting_s=300.0)
    assert need(patient).workers < 1 < need(urgent).workers


def test_a_lane_whose_oldest_comes_near_its_objective_becomes_urgent() -> None:
    early, late = (Demand(lane=Lane.NORMAL, waiting_s=200.0, oldest_s=oldest) for oldest in (0.0, 45.0))
    assert need(late).workers > need(early).workers
    assert "the oldest for 45.0 of 60 s" in need(late).why


def test_a_lane_waits_for_those_served_before_it() -> None:
    high, normal = Demand(lane=Lane.HIGH, rate=1.0), Demand(lane=Lane.NORMAL, waiting_s=200.0)
    assert need(high, normal).workers > need(normal).workers
    assert need(Demand(lane=Lane.LOW, waiting_s=500.0), normal).workers == pytest.approx(need(normal).workers)


def needs(*demands: Demand, **pools: PoolNow) -> dict[str, Need]:
    rules = {"std": rule(min_workers=1, max_workers=2, cost_per_h=2.0), "spot": rule(min_workers=0, max_workers=4, cost_per_h=1.0)}
    return share_out(snapshot(*demands, **pools), rules, {pool: one.max_workers for pool, one in rules.items()})


def test_work_goes_first_to_workers_that_are_there_anyway() -> None:
    found = needs(Demand(lane=Lane.HIGH, rate=0.6))
    assert (found["std"].whole, found["spot"].whole) == (1, 0)


def test_what_is_left_goes_to_the_cheapest_pool_and_then_to_the_next() -> None:
    found = needs(Demand(lane=Lane.HIGH, rate=3.0))  # four workers' worth
    assert found["std"].workers == pytest.approx(1.0)
    assert found["spot"].workers == pytest.approx(3.0)
    found = needs(Demand(lane=Lane.HIGH, rate=4.5))  # six
    assert (found["std"].whole, found["spot"].whole) == (2, 4)


def test_work_that_only_one_pool_may_serve_goes_before_work_that_has_a_choice() -> None:
    own = Demand(lane=Lane.LOW, pools=frozenset({"spot"}), rate=2.25)  # three
    found = needs(own, Demand(lane=Lane.HIGH, rate=2.25))
    assert sum(one.rate for one in found["spot"].demands if one.pools == {"spot"}) == pytest.approx(2.25)
    assert found["std"].workers == pytest.approx(2.0)


def test_what_no_pool_has_room_for_is_still_a_need_of_those_that_may_serve_it() -> None:
    found = needs(Demand(lane=Lane.HIGH, rate=30.0))
    assert found["std"].whole > 2 and found["spot"].whole > 4


def test_no_work_is_lost_or_doubled_on_its_way_to_the_pools() -> None:
    demands = [Demand(lane=lane, waiting_s=20.0, rate=0.5) for lane in Lane]
    found = needs(*demands)
    shared = [one for need in found.values() for one in need.demands]
    assert sum(one.rate for one in shared) == pytest.approx(1.5)
    assert sum(one.waiting_s for one in shared) == pytest.approx(60.0)


def test_a_pool_without_a_rule_takes_no_part() -> None:
    found = needs(Demand(lane=Lane.HIGH, pools=frozenset({"edge"}), rate=5.0))
    assert all(one.workers == 0 for one in found.values())
