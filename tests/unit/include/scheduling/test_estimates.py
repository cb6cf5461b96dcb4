from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.events import Estimate, Lane
from include.scheduling.estimates import LONGEST_S, UNKNOWN_WAIT_S, DrainRate, WaitEstimator


def run(
    estimator: WaitEstimator, count: int, *, bias: float = 1.0, spread: float = 0.4, waiting: int = 20, seed: int = 1
) -> Iterator[tuple[Estimate, float]]:
    """A process whose waits are the plain estimate times a log-normal factor; each is settled when ``waiting`` others were told theirs."""
    numbers = random.Random(seed)
    told: deque[tuple[Estimate, float]] = deque()
    for _ in range(count):
        ahead_s = numbers.uniform(0.0, 80.0)
        estimate = estimator.estimate(ahead_s, 0.5, Lane.NORMAL)
        told.append((estimate, 2 * ahead_s * bias * math.exp(numbers.gauss(0.0, spread))))
        if len(told) > waiting:
            settled, waited_s = told.popleft()
            estimator.settle(Lane.NORMAL, settled, waited_s)
            yield settled, waited_s


def coverage(pairs: list[tuple[Estimate, float]]) -> float:
    return sum(estimate.low_s <= waited_s <= estimate.high_s for estimate, waited_s in pairs) / len(pairs)


class TestBand:
    def test_before_any_data_it_is_the_plain_estimate_in_a_wide_band(self) -> None:
        estimate = WaitEstimator().estimate(30.0, 0.5, Lane.LOW)
        assert estimate.wait_s == pytest.approx(60.0)
        assert estimate.low_s < 20.0 and estimate.high_s > 200.0

    def test_with_nothing_ahead_it_may_start_at_once(self) -> None:
        assert WaitEstimator().estimate(0.0, 0.0, Lane.HIGH).low_s == 0.0

    @pytest.mark.parametrize("bias", [0.2, 1.0, 3.0])
    @pytest.mark.parametrize("spread", [0.1, 0.8])
    def test_four_of_five_fall_into_it(self, bias: float, spread: float) -> None:
        estimator = WaitEstimator()
        pairs = list(run(estimator, 2000, bias=bias, spread=spread))[300:]
        assert 0.75 <= coverage(pairs) <= 0.85
        assert estimator.calibration_error <= 0.1

    def test_the_told_wait_loses_its_bias(self) -> None:
        pairs = list(run(WaitEstimator(), 1500, bias=3.0, spread=0.2))[-500:]
        errors = sorted(math.log((waited_s + 1) / (estimate.wait_s + 1)) for estimate, waited_s in pairs)
        assert abs(errors[250]) < 0.05

    def test_it_is_no_wider_than_it_must(self) -> None:
        estimator = WaitEstimator()
        list(run(estimator, 1000, spread=0.1))
        estimate = estimator.estimate(30.0, 0.5, Lane.NORMAL)
        assert estimate.high_s / estimate.low_s < math.exp(2 * 1.282 * 0.1) * 1.15

    def test_it_adapts_when_the_process_changes(self) -> None:
        estimator = WaitEstimator()
        list(run(estimator, 1000, spread=0.2))
        changed = list(run(estimator, 1200, bias=5.0, spread=0.5, seed=2))
        assert coverage(changed[:30]) < 0.2
        assert 0.7 <= coverage(changed[-500:]) <= 0.9

    def test_a_long_queue_says_nothing_of_a_short_one(self) -> None:
        estimator = WaitEstimator()
        fresh = estimator.estimate(1.0, 1.0, Lane.NORMAL)
        for _ in range(50):
            estimator.settle(Lane.NORMAL, estimator.estimate(500.0, 1.0, Lane.NORMAL), 5000.0)
            estimator.settle(Lane.LOW, estimator.estimate(1.0, 1.0, Lane.LOW), 50.0)
        assert estimator.estimate(1.0, 1.0, Lane.NORMAL) == fresh
        assert estimator.estimate(500.0, 1.0, Lane.NORMAL).wait_s == pytest.approx(5000.0)


class TestUnknown:
    def test_a_lane_without_a_rate_is_told_the_stated_wait(self) -> None:
        estimate = WaitEstimator().estimate(5.0, 0.0, Lane.LOW)
        assert (estimate.wait_s, estimate.low_s, estimate.high_s) == (UNKNOWN_WAIT_S, 0.0, LONGEST_S)

    def test_nothing_is_learned_from_it(self) -> None:
        estimator = WaitEstimator()
        for _ in range(100):
            estimator.settle(Lane.LOW, estimator.estimate(5.0, 0.0, Lane.LOW), 1.0)
        assert estimator.coverage is None and estimator.calibration_error == 0.0


def test_a_message_says_what_was_told() -> None:
    told = WaitEstimator().estimate(30.0, 0.5, Lane.NORMAL)
    assert told.message() == Estimate(wait_s=told.wait_s, low_s=told.low_s, high_s=told.high_s)


def test_a_restored_estimator_goes_on_as_before() -> None:
    estimator, again = WaitEstimator(), WaitEstimator()
    list(run(estimator, 700, bias=2.0))
    again.restore(estimator.encode())
    assert again.coverage == estimator.coverage
    for ahead_s in (0.0, 3.0, 30.0):
        told, same = estimator.estimate(ahead_s, 0.5, Lane.NORMAL), again.estimate(ahead_s, 0.5, Lane.NORMAL)
        assert (same.low_s, same.wait_s, same.high_s) == pytest.approx((told.low_s, told.wait_s, told.high_s), abs=0.01)
    assert len(estimator.encode()) < 20_000


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(0, 1e6), st.sampled_from(Lane)), max_size=80))
def test_every_estimate_is_in_order_and_within_what_a_message_can_say(calls: list[tuple[float, float, float, Lane]]) -> None:
    estimator = WaitEstimator()
    for ahead_s, rate, waited_s, lane in calls:
        estimate = estimator.estimate(ahead_s, rate, lane)
        assert 0 <= estimate.low_s <= estimate.wait_s <= estimate.high_s <= LONGEST_S
        estimator.settle(lane, estimate, waited_s)
    assert 0 <= estimator.calibration_error <= 0.8


class TestDrainRate:
    def test_a_steady_flow_is_measured(self) -> None:
        drain = DrainRate(tau_s=30.0)
        for second in range(200):
            drain.served(Lane.LOW, 0.5, 1000.0 + second)
        assert drain.rate(Lane.LOW, 1200.0) == pytest.approx(0.5, rel=0.05)
        assert drain.rate(Lane.HIGH, 1200.0) == 0.0

    def test_it_follows_a_change(self) -> None:
        drain = DrainRate(tau_s=30.0)
        for second in range(400):
            drain.served(Lane.LOW, 0.5 if second < 200 else 4.0, float(second))
        assert drain.rate(Lane.LOW, 400.0) == pytest.approx(4.0, rel=0.05)

    def test_slots_filled_at_once_are_no_rate(self) -> None:
        drain = DrainRate()
        for _ in range(16):
            drain.served(Lane.HIGH, 2.0, 100.0)
        assert drain.rate(Lane.HIGH, 100.0) == 0.0
        drain.served(Lane.HIGH, 2.0, 101.0)
        assert drain.rate(Lane.HIGH, 101.0) <= 0.4

    def test_time_without_a_queue_does_not_count(self) -> None:
        drain = DrainRate(tau_s=30.0)
        for second in range(200):
            drain.served(Lane.HIGH, 2.0, float(second))
        drain.waiting(Lane.HIGH, False, 200.0)
        for second in range(200, 4000, 100):
            drain.served(Lane.HIGH, 2.0, float(second))
        drain.waiting(Lane.HIGH, True, 4000.0)
        assert drain.rate(Lane.HIGH, 4000.0) == pytest.approx(2.0, rel=0.05)

    def test_short_waits_at_low_load_do_not_look_like_a_fast_drain(self) -> None:
        drain = DrainRate()
        for begin in range(0, 500, 5):
            drain.waiting(Lane.HIGH, True, begin + 0.8)
            drain.served(Lane.HIGH, 1.0, begin + 1.0)
            drain.waiting(Lane.HIGH, False, begin + 1.0)
        assert drain.rate(Lane.HIGH, 500.0, prior=1.0) == pytest.approx(1.0, rel=0.2)

    def test_a_prior_gives_way_to_what_is_measured(self) -> None:
        drain = DrainRate(tau_s=60.0)
        assert drain.rate(Lane.LOW, 0.0, prior=3.0) == pytest.approx(3.0)
        for second in range(300):
            drain.served(Lane.LOW, 1.0, float(second))
        assert drain.rate(Lane.LOW, 300.0, prior=3.0) == pytest.approx(1.3, abs=0.1)
