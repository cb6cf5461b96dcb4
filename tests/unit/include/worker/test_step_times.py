from __future__ import annotations

import pytest

from include.worker.step_times import StepTimes, Work


def test_a_model_is_known_by_its_own_steps_and_others_by_the_known_ones() -> None:
    times = StepTimes()
    small, large = Work("small/1", 100), Work("small/1", 400)
    assert times.estimate(large, 10) == 4 * times.estimate(small, 10)
    times.observe(small, 10, 1.0)
    assert times.estimate(small, 5) == pytest.approx(0.5)
    assert times.estimate(large, 5) == pytest.approx(2.0)
    assert times.estimate(Work("other/1", 100), 5) == pytest.approx(0.5)


def test_it_follows_what_it_sees_and_is_not_thrown_by_nothing() -> None:
    times, work = StepTimes(), Work("m/1", 1)
    times.observe(work, 1, 1.0)
    times.observe(work, 0, 99.0)
    for _ in range(50):
        times.observe(work, 1, 2.0)
    assert times.estimate(work, 1) == pytest.approx(2.0, rel=0.01)
