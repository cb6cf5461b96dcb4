from __future__ import annotations

import pytest

from include.autoscale.sizer import Sizer
from include.autoscale.sizing import Demand, PoolNow
from include.contracts.events import Lane
from tests.unit.include.autoscale.builders import NOW, decide, rule, snapshot

WAITS = Demand(lane=Lane.HIGH, waiting_s=60.0)
BUSY = PoolNow(running=4, busy=4, utilisation=1.0, in_flight_s=4.0)


def test_up_at_once_and_by_all_that_is_needed() -> None:
    decision = decide(Sizer(), PoolNow(running=1), WAITS)
    assert (decision.before, decision.after) == (1, 5)
    assert "60.0 device seconds wait up to lane high" in decision.reason


def test_what_is_starting_is_not_started_again() -> None:
    decision = decide(Sizer(), PoolNow(running=1, starting=4), WAITS)
    assert not decision.changes


def test_while_workers_start_the_same_work_starts_no_others() -> None:
    """What the running one does meanwhile makes up for what comes."""
    sizer, scaling = Sizer(), rule(max_workers=100, start_s=20.0)
    first = decide(sizer, PoolNow(running=1), Demand(lane=Lane.HIGH, waiting_s=200.0), scaling=scaling).after
    for second in range(2, 20, 2):
        waits = Demand(lane=Lane.HIGH, waiting_s=200.0 + 4.0 * second)
        now = PoolNow(running=1, starting=first - 1)
        assert decide(sizer, now, waits, at=NOW + second, scaling=scaling).after == first


def test_workers_that_a_burst_started_need_not_come_once_it_is_over() -> None:
    sizer, scaling = Sizer(), rule(max_workers=100, start_s=20.0, down_every_s=30.0)
    burst = Demand(lane=Lane.HIGH, rate=0.75, burst=6.75, lasting=0.0)
    assert decide(sizer, PoolNow(running=1), burst, scaling=scaling).after == 10
    faint = Demand(lane=Lane.HIGH, rate=0.75, burst=0.75, lasting=0.75)
    starting = PoolNow(running=1, starting=9)
    assert decide(sizer, starting, faint, at=NOW + 4.0, scaling=scaling).after == 10, "while it goes on they are waited for"
    over = decide(sizer, starting, Demand(lane=Lane.HIGH, rate=0.75), at=NOW + 6.0, scaling=scaling)
    assert over.after == 2, "what was taken to stay is kept for a while"
    assert "need not come" in over.reason
    came = decide(sizer, PoolNow(running=10), Demand(lane=Lane.HIGH, rate=0.75), at=NOW + 8.0, scaling=scaling)
    assert came.after == 10 and "kept: changed 2 s ago" in came.reason, "those that have come go slowly"


def test_workers_that_a_believed_burst_started_are_kept_as_any_others() -> None:
    sizer, scaling = Sizer(), rule(max_workers=100, start_s=20.0, down_after_s=60.0)
    burst = Demand(lane=Lane.HIGH, rate=0.75, burst=6.75, lasting=6.75)
    assert decide(sizer, PoolNow(running=1), burst, scaling=scaling).after == 10
    calm, starting = Demand(lane=Lane.HIGH, rate=0.75), PoolNow(running=1, starting=9)
    assert decide(sizer, starting, calm, at=NOW + 30.0, scaling=scaling).after == 10
    assert decide(sizer, PoolNow(running=10), calm, at=NOW + 70.0, scaling=scaling).after < 10


def test_workers_that_were_taken_back_or_came_are_expected_no_more() -> None:
    sizer, scaling = Sizer(), rule(max_workers=100, start_s=10.0)
    decide(sizer, PoolNow(), Demand(lane=Lane.HIGH, waiting_s=40.0), scaling=scaling)
    came = PoolNow(running=4)
    again = decide(sizer, came, Demand(lane=Lane.HIGH, waiting_s=200.0), at=NOW + 10.0, scaling=scaling)
    assert again.after == decide(Sizer(), came, Demand(lane=Lane.HIGH, waiting_s=200.0), scaling=scaling).after


def test_never_more_than_the_limit_and_the_reason_says_so() -> None:
    decision = decide(Sizer(), PoolNow(running=1), WAITS, scaling=rule(max_workers=3))
    assert decision.after == 3
    assert decision.reason.startswith("max_workers, where 5 are needed")


def test_never_fewer_than_the_limit() -> None:
    decision = decide(Sizer(), PoolNow(), scaling=rule(min_workers=2))
    assert (decision.after, decision.reason) == (2, "min_workers: nothing arrives and nothing waits")


def test_down_only_to_what_was_needed_at_no_time_of_the_window() -> None:
    sizer = Sizer()
    assert decide(sizer, PoolNow(running=5), WAITS).after == 5
    kept = decide(sizer, PoolNow(running=5), at=NOW + 59.0)
    assert kept.after == 5 and "5 were needed within the last 60 s" in kept.reason
    assert decide(sizer, PoolNow(running=5), at=NOW + 120.0).after < 5


def test_down_by_half_at_most_and_not_again_at_once() -> None:
    sizer = Sizer()
    decide(sizer, PoolNow(running=8))
    assert decide(sizer, PoolNow(running=8), at=NOW + 61.0).after == 4
    kept = decide(sizer, PoolNow(running=4), at=NOW + 65.0)
    assert kept.after == 4 and "changed 4 s ago" in kept.reason
    assert decide(sizer, PoolNow(running=4), at=NOW + 75.0).after == 2


def test_down_to_no_fewer_than_hold_a_lease() -> None:
    sizer = Sizer()
    decide(sizer, PoolNow(running=8))
    assert decide(sizer, PoolNow(running=8, busy=6), at=NOW + 61.0).after == 6
    kept = decide(sizer, PoolNow(running=6, busy=6), at=NOW + 80.0)
    assert kept.after == 6 and "6 hold a lease" in kept.reason


def test_workers_in_use_stay_whatever_was_predicted() -> None:
    sizer = Sizer()
    decide(sizer, BUSY)
    kept = decide(sizer, BUSY, at=NOW + 100.0)
    assert kept.after == 4
    assert decide(sizer, PoolNow(running=4, busy=1, utilisation=0.3, in_flight_s=1.0), at=NOW + 200.0).after == 2


def test_a_new_one_takes_nobody_away_for_the_length_of_the_window() -> None:
    """To kill and restart the controller changes nothing by itself."""
    for at in range(0, 60, 2):
        sizer = Sizer()  # restarted each time
        assert decide(sizer, PoolNow(running=6), at=NOW + at).after == 6
    sizer = Sizer()
    assert all(decide(sizer, PoolNow(running=6), at=NOW + at).after == 6 for at in range(0, 60, 2))


def test_to_zero_when_idle_for_long_enough_and_back_with_the_first_request() -> None:
    sizer, scaling = Sizer(), rule(min_workers=0, idle_s=120.0)
    decide(sizer, PoolNow(running=1, idle_s=0.0), scaling=scaling)
    kept = decide(sizer, PoolNow(running=1, idle_s=119.0), at=NOW + 119.0, scaling=scaling)
    assert kept.after == 1 and "for less than 120 s" in kept.reason
    gone = decide(sizer, PoolNow(running=1, idle_s=120.0), at=NOW + 120.0, scaling=scaling)
    assert (gone.after, gone.reason) == (0, "0 needed: no work for 120 s")
    back = decide(sizer, PoolNow(), Demand(lane=Lane.LOW, waiting_s=0.1), at=NOW + 121.0, scaling=scaling)
    assert (back.before, back.after) == (0, 1)


def test_a_rate_that_fades_keeps_an_empty_pool_empty() -> None:
    scaling = rule(min_workers=0, idle_s=120.0)
    assert decide(Sizer(), PoolNow(), Demand(lane=Lane.LOW, rate=0.02), scaling=scaling).after == 0


def test_the_work_of_a_pool_whose_workers_do_not_come_goes_to_the_next() -> None:
    rules = {"spot": rule(min_workers=0, cost_per_h=1.0, spot=True), "std": rule(min_workers=0, cost_per_h=3.0)}
    sizer, arrives = Sizer(), Demand(lane=Lane.HIGH, rate=3.0)

    def after(at: float, spot: PoolNow) -> dict[str, int]:
        return {one.pool: one.after for one in sizer.decide(snapshot(arrives, at=at, spot=spot, std=PoolNow()), rules)}

    assert after(NOW, PoolNow()) == {"spot": 4, "std": 0}
    assert after(NOW + 20.0, PoolNow(starting=4)) == {"spot": 4, "std": 0}
    refused = after(NOW + 60.0, PoolNow(starting=4))
    assert refused["std"] == 4, "nobody came for three times the start-up time"
    assert refused["spot"] == 4, "it goes on asking"
    assert after(NOW + 70.0, PoolNow(running=4)) == {"spot": 4, "std": 0}, "and they came after all"


@pytest.mark.parametrize("running", [12, 20])
def test_a_pool_that_is_larger_than_its_limit_shrinks(running: int) -> None:
    sizer, arrives = Sizer(), Demand(lane=Lane.HIGH, rate=30.0)
    decide(sizer, PoolNow(running=running, busy=2), arrives)
    assert decide(sizer, PoolNow(running=running, busy=2), arrives, at=NOW + 61.0).after == 10
