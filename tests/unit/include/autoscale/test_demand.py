from __future__ import annotations

import pytest

from include.autoscale.demand import RATE_TAU_S, DemandTracker
from include.autoscale.sizing import Demand, PoolNow
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Lane, State, Usage
from include.contracts.requests import ServiceClass
from include.contracts.workers import Goodbye, Hello
from tests.unit.include.autoscale.builders import NOW, OBJECTIVES, credit, event, queued


@pytest.fixture
def tracker() -> DemandTracker:
    return DemandTracker(NOW)


def demands(tracker: DemandTracker, at: float = NOW) -> dict[tuple[Lane, frozenset[str]], Demand]:
    return {(one.lane, one.pools): one for one in tracker.snapshot(at, {}, OBJECTIVES).demands}


def high(tracker: DemandTracker, at: float = NOW) -> Demand:
    return demands(tracker, at)[Lane.HIGH, frozenset()]


def pool(tracker: DemandTracker, at: float = NOW, found: PoolNow | None = None) -> PoolNow:
    return tracker.snapshot(at, {"std": found or PoolNow(running=2)}, OBJECTIVES).pools["std"]


def test_a_request_waits_from_queued_to_processing(tracker: DemandTracker) -> None:
    tracker.take_event(queued("a", 2.0))
    tracker.take_event(queued("b", 3.0, at=NOW + 1.0))
    found = high(tracker, NOW + 4.0)
    assert (found.waiting_s, found.oldest_s) == (5.0, 4.0)
    tracker.take_event(event(State.PROCESSING, "a", attempt=1, pool="std", at=NOW + 4.0))
    found = high(tracker, NOW + 5.0)
    assert (found.waiting_s, found.oldest_s) == (3.0, 4.0)


@pytest.mark.parametrize("state", [State.COMPLETED, State.CANCELLED, State.EXPIRED, State.FAILED, State.REFUSED])
def test_a_request_that_is_over_waits_no_more(tracker: DemandTracker, state: State) -> None:
    tracker.take_event(queued("a"))
    tracker.take_event(event(state, "a"))
    assert high(tracker).waiting_s == 0.0


def test_a_retry_waits_again_and_is_as_old_as_it_was_but_no_new_arrival(tracker: DemandTracker) -> None:
    tracker.take_event(queued("a", 2.0))
    rate = high(tracker).rate
    tracker.take_event(event(State.PROCESSING, "a", attempt=1, pool="std"))
    tracker.take_event(event(State.RETRYING, "a", attempt=1))
    assert high(tracker).waiting_s == 2.0
    tracker.take_event(queued("a", 2.0, attempt=1, at=NOW + 9.0))
    found = high(tracker, NOW + 10.0)
    assert (found.waiting_s, found.oldest_s) == (2.0, 10.0)
    assert found.rate < rate


def test_a_steady_stream_has_its_rate(tracker: DemandTracker) -> None:
    for number in range(600):
        tracker.take_event(queued(f"r{number}", 1.5, at=NOW + number / 2))
    assert high(tracker, NOW + 300.0).rate == pytest.approx(3.0, rel=0.03)
    assert high(tracker, NOW + 300.0 + RATE_TAU_S).rate == pytest.approx(3.0 / 2.718, rel=0.03)


def test_many_at_once_are_work_and_not_the_beginning_of_a_flood(tracker: DemandTracker) -> None:
    for number in range(60):
        tracker.take_event(queued(f"r{number}", 1.0))
    at_once, soon, later = high(tracker), high(tracker, NOW + 5.0), high(tracker, NOW + 15.0)
    assert soon.burst == soon.lasting == soon.surge_s == 0.0, "nothing came after them"
    assert (at_once.waiting_s, at_once.rate, at_once.burst, at_once.surge_s) == (60.0, pytest.approx(1.0), 0.0, 0.0)
    assert later.burst == later.surge_s == 0.0, "it is over"


def test_a_burst_is_believed_the_more_the_longer_it_lasts(tracker: DemandTracker) -> None:
    def stream(first: int, last: int, each: int) -> None:
        for second in range(first, last):
            for number in range(each):
                tracker.take_event(queued(f"r{second}-{number}", 1.0, at=NOW + second))

    stream(0, 300, 1)
    assert high(tracker, NOW + 300.0).burst == 0.0
    stream(300, 305, 8)
    early = high(tracker, NOW + 305.0)
    stream(305, 312, 8)
    late = high(tracker, NOW + 312.0)
    assert 0 < early.burst < late.burst < 8.0
    assert 0 < early.lasting < 0.5 * early.burst, "reason to start workers before it is reason to keep them"
    assert late.lasting > 2 * early.lasting
    assert early.surge_s < late.surge_s <= 7.0 * 12
    assert late.rate + late.burst == pytest.approx(8.0, rel=0.25), "all of it by now"


def test_what_may_go_to_other_pools_or_lanes_is_counted_apart(tracker: DemandTracker) -> None:
    tracker.take_event(queued("a", 1.0))
    tracker.take_event(queued("b", 2.0, pools=("spot",)))
    tracker.take_event(queued("c", 3.0, lane=Lane.LOW))
    found = {key: one.waiting_s for key, one in demands(tracker).items()}
    assert found == {(Lane.HIGH, frozenset()): 1.0, (Lane.HIGH, frozenset({"spot"})): 2.0, (Lane.LOW, frozenset()): 3.0}


def test_what_came_before_we_read_is_made_good_by_the_next_request(tracker: DemandTracker) -> None:
    tracker.take_event(queued("late", 2.0, told_s=40.0))
    assert high(tracker).waiting_s == pytest.approx(40.0)
    assert high(tracker, NOW + 61.0).waiting_s == pytest.approx(2.0), "nobody says so any more"
    tracker.take_event(queued("later", 2.0, told_s=10.0, at=NOW + 62.0))
    assert high(tracker, NOW + 62.0).waiting_s == pytest.approx(10.0)


def test_what_the_scheduler_no_longer_has_is_dropped_oldest_first(tracker: DemandTracker) -> None:
    """As after a router that started without its state."""
    for number in range(10):
        tracker.take_event(queued(f"lost{number}", 2.0, told_s=2.0 * (number + 1)))
    tracker.take_event(queued("new", 2.0, told_s=2.0, at=NOW + 5.0))
    found = high(tracker, NOW + 6.0)
    assert found.waiting_s == pytest.approx(2.0)
    assert found.oldest_s == pytest.approx(1.0)


def test_the_restored_router_that_says_things_again_changes_nothing(tracker: DemandTracker) -> None:
    for _ in range(3):
        tracker.take_event(queued("a", 2.0))
    assert high(tracker).waiting_s == 2.0
    tracker.take_event(event(State.COMPLETED, "a"))
    tracker.take_event(event(State.COMPLETED, "a"))
    assert high(tracker).waiting_s == 0.0


def test_a_request_that_found_its_lane_full_counts_as_an_arrival(tracker: DemandTracker) -> None:
    tracker.take_event(queued("a", 2.0))
    rate = high(tracker).rate
    reason = Reason(code=ReasonCode.OVERLOADED, message="full")
    tracker.take_event(event(State.REFUSED, "b", lane=None, tier=None, reason=reason))
    found = high(tracker)
    assert (found.rate, found.waiting_s) == (pytest.approx(2 * rate), 2.0)
    tracker.take_event(event(State.REFUSED, "c", lane=None, reason=Reason(code=ReasonCode.RATE_LIMITED, message="too many")))
    assert high(tracker).rate == pytest.approx(2 * rate)


def test_what_the_router_left_in_the_batch_topic_waits_too(tracker: DemandTracker) -> None:
    tracker.batch_behind = 100
    assert not demands(tracker), "what they cost is not known yet"
    tracker.take_event(queued("a", 3.0, lane=Lane.LOW, service_class=ServiceClass.BATCH))
    assert demands(tracker)[Lane.LOW, frozenset()].waiting_s == pytest.approx(303.0)


def test_events_without_a_prediction_are_no_demand(tracker: DemandTracker) -> None:
    tracker.take_event(event(State.QUEUED, "a"))
    tracker.take_event(event(State.PROCESSING, "a", attempt=1, pool="std"))
    tracker.take_event(event(State.PROCESSING, "unknown", attempt=1))
    tracker.take_event(event(State.RETRYING, "unknown"))
    assert not demands(tracker)


def test_heartbeats_tell_who_works_and_how_much(tracker: DemandTracker) -> None:
    tracker.take_worker(credit("w-0", held=("lease-1",), utilisation=1.0))
    tracker.take_worker(credit("w-1", utilisation=0.5))
    found = pool(tracker)
    assert (found.running, found.starting, found.busy) == (2, 0, 1)
    assert found.utilisation == pytest.approx(0.75)
    assert found.idle_workers == ("w-1",)


def test_utilisation_follows_within_some_heartbeats(tracker: DemandTracker) -> None:
    tracker.take_worker(credit(utilisation=1.0))
    for second in range(1, 61):
        tracker.take_worker(credit(utilisation=0.0, at=NOW + second))
    assert pool(tracker, NOW + 60.0).utilisation == pytest.approx(0.05, abs=0.01)


def test_without_a_measured_utilisation_a_held_lease_counts(tracker: DemandTracker) -> None:
    tracker.take_worker(credit(held=("lease-1",)))
    assert pool(tracker).utilisation == 1.0


def test_a_process_that_says_nothing_yet_is_starting(tracker: DemandTracker) -> None:
    tracker.take_worker(credit("w-0"))
    found = pool(tracker, found=PoolNow(running=3, starting=1, draining=1))
    assert (found.running, found.starting, found.draining) == (1, 3, 1)


def test_silent_draining_and_departed_workers_do_not_count(tracker: DemandTracker) -> None:
    identity = {"incarnation": "i-1", "cell": "cell-0", "pool": "std", "at": NOW}
    tracker.take_worker(credit("silent"))
    tracker.take_worker(credit("draining", slots=0, at=NOW + 20.0))
    tracker.take_worker(credit("gone", at=NOW + 20.0))
    tracker.take_worker(Goodbye(worker_id="gone", **{**identity, "at": NOW + 21.0}))
    tracker.take_worker(Hello(worker_id="fresh", **{**identity, "at": NOW + 21.0}))
    assert pool(tracker, NOW + 21.0, PoolNow(running=4)).running == 1


def test_a_heartbeat_of_an_earlier_incarnation_says_nothing(tracker: DemandTracker) -> None:
    tracker.take_worker(Hello(worker_id="w-0", incarnation="i-2", cell="cell-0", pool="std", at=NOW))
    tracker.take_worker(credit("w-0", held=("lease-1",), incarnation="i-1"))
    assert pool(tracker).busy == 0


def test_what_is_left_of_renders_and_how_long_a_pool_has_been_idle(tracker: DemandTracker) -> None:
    assert pool(tracker, NOW + 5.0).idle_s == 5.0, "counted from when we began to look"
    tracker.take_event(queued("a", 10.0, at=NOW + 10.0))
    tracker.take_event(event(State.PROCESSING, "a", attempt=1, pool="std", at=NOW + 10.0))
    found = pool(tracker, NOW + 13.0)
    assert (found.in_flight_s, found.idle_s) == (7.0, 3.0)
    tracker.take_worker(credit("w-0", held=("lease-1",), at=NOW + 20.0))
    assert pool(tracker, NOW + 20.0).idle_s == 0.0


@pytest.mark.parametrize(("actual_s", "factor"), [(1.0, 0.5), (2.0, 1.0), (3.0, 1.5), (100.0, 4.0)])
def test_demand_is_corrected_by_what_completions_cost(tracker: DemandTracker, actual_s: float, factor: float) -> None:
    usage = Usage(gpu_seconds=actual_s, render_s=actual_s, steps=4)
    for number in range(400):
        tracker.take_event(queued(f"r{number}", 2.0, at=NOW + number / 4))
        tracker.take_event(event(State.COMPLETED, f"r{number}", usage=usage, at=NOW + number / 4))
    tracker.take_event(queued("waits", 2.0, at=NOW + 100.0))
    assert high(tracker, NOW + 100.0).waiting_s == pytest.approx(2.0 * factor, rel=0.02)


def test_what_a_cache_answered_says_nothing_about_cost(tracker: DemandTracker) -> None:
    tracker.take_event(queued("a", 2.0))
    usage = Usage(gpu_seconds=0.0, render_s=0.0, steps=0, cache_hits=("result",))
    tracker.take_event(event(State.COMPLETED, "a", usage=usage))
    tracker.take_event(queued("b", 2.0))
    assert high(tracker).waiting_s == pytest.approx(2.0)
