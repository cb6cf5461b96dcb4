from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.scheduling.timers import Alarm, Timers, is_due


@pytest.mark.parametrize(("now", "due"), [(100.0, False), (104.9, False), (105.0, True), (99.9, True), (0.0, True)])
def test_what_recurs_is_due_after_its_time_and_after_the_clock_was_set_back(now: float, due: bool) -> None:
    assert is_due(now, 100.0, 5.0) is due
    assert is_due(now, float("-inf"), 5.0)


def test_what_is_due_comes_earliest_first() -> None:
    timers = Timers()
    timers.set(Alarm.LEASE, "b", 2.0)
    timers.set(Alarm.RETRY, "a", 1.0)
    timers.set(Alarm.EXPIRY, "c", 3.0)
    assert timers.take(2.5) == [(Alarm.RETRY, "a"), (Alarm.LEASE, "b")]
    assert timers.take(2.5) == []


def test_a_moved_timer_fires_once_at_its_new_time() -> None:
    timers = Timers()
    for at in (5.0, 9.0, 7.0):
        timers.set(Alarm.LEASE, "a", at)
    assert timers.take(6.9) == []
    assert timers.take(7.0) == [(Alarm.LEASE, "a")]
    assert timers.take(100.0) == []


def test_a_cleared_timer_never_fires() -> None:
    timers = Timers()
    timers.set(Alarm.LEASE, "a", 1.0)
    timers.clear(Alarm.LEASE, "a")
    assert timers.take(2.0) == [] and len(timers) == 0


def test_memory_stays_within_what_is_set() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.set(Alarm.RETRY, str(number), 1e9)
        timers.clear(Alarm.RETRY, str(number))
        timers.set(Alarm.LEASE, "renewed", float(number))
    assert len(timers._heap) <= 70


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("set", "clear", "take")), st.integers(0, 20)), max_size=60))
def test_it_is_a_dictionary_of_deadlines(steps: list[tuple[str, str, int]]) -> None:
    timers, model = Timers(), {}
    for name, step, at in steps:
        if step == "set":
            timers.set(Alarm.LEASE, name, at)
            model[name] = at
        elif step == "clear":
            timers.clear(Alarm.LEASE, name)
            model.pop(name, None)
        else:
            due = {key for key, when in model.items() if when <= at}
            assert {key for _, key in timers.take(at)} == due
            model = {key: when for key, when in model.items() if key not in due}
            assert timers.next_at() is None or not model or timers.next_at() <= min(model.values())
