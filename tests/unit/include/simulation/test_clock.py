from __future__ import annotations

from include.simulation.clock import Clock


def test_actions_happen_in_order_of_time_then_of_planning():
    clock, seen = Clock(100.0), []
    for name, at in (("late", 103.0), ("first", 101.0), ("second", 101.0)):
        clock.at(at, lambda name=name: seen.append((name, clock.now)))
    clock.run(110.0)
    assert seen == [("first", 101.0), ("second", 101.0), ("late", 103.0)]
    assert clock.now == 110.0


def test_an_action_may_plan_further_ones_and_the_end_is_not_included():
    clock, seen = Clock(0.0), []

    def again() -> None:
        seen.append(clock.now)
        clock.at(clock.now + 1.0, again)

    clock.at(0.0, again)
    clock.run(3.0)
    assert seen == [0.0, 1.0, 2.0]


def test_what_is_planned_for_the_past_happens_now():
    clock, seen = Clock(0.0), []
    clock.at(5.0, lambda: clock.at(1.0, lambda: seen.append(clock.now)))
    clock.run(6.0)
    assert seen == [5.0]
