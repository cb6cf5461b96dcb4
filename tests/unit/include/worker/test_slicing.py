from __future__ import annotations

import itertools
import random

from include.worker.slicing import Bounds, Turn, choose

BOUNDS = Bounds(max_parked=2, max_times=3, max_parked_s=60.0, shorter=4.0)


def turn(name: str, urgency: int = 1, left_s: float = 10.0, **values: float) -> Turn[str]:
    return Turn(of=name, urgency=urgency, left_s=left_s, **values)  # type: ignore[arg-type]


def test_nobody_there_is_nobodys_turn() -> None:
    assert choose(None, [], [], BOUNDS) is None


def test_what_runs_goes_on_where_nothing_is_more_urgent_or_much_shorter() -> None:
    running = turn("long", left_s=10)
    assert choose(running, [], [turn("like it", left_s=2.6), turn("less urgent", urgency=2, left_s=0.1)], BOUNDS) == "long"


def test_a_more_urgent_or_a_much_shorter_lease_goes_first() -> None:
    running = turn("long", left_s=10)
    assert choose(running, [], [turn("short", left_s=2.5)], BOUNDS) == "short"
    assert choose(running, [], [turn("short", left_s=2.5), turn("urgent", urgency=0, left_s=99)], BOUNDS) == "urgent"


def test_a_short_one_whose_model_is_not_loaded_waits_but_an_urgent_one_does_not() -> None:
    running = turn("long", left_s=10)
    assert choose(running, [], [turn("short", left_s=1, ready=False)], BOUNDS) == "long"
    assert choose(running, [], [turn("urgent", urgency=0, ready=False)], BOUNDS) == "urgent"


def test_it_is_put_aside_only_so_often_so_long_and_so_many_at_a_time() -> None:
    waiting = [turn("urgent", urgency=0)]
    assert choose(turn("long", times=3), [], waiting, BOUNDS) == "long"
    assert choose(turn("long", parked_s=60), [], waiting, BOUNDS) == "long"
    assert choose(turn("long"), [turn("a", urgency=2), turn("b", urgency=2)], waiting, BOUNDS) == "long"
    assert choose(turn("long"), [], waiting, BOUNDS, room=False) == "long"
    assert choose(turn("long"), [], waiting, Bounds(max_parked=0)) == "long"


def test_what_was_put_aside_goes_on_before_a_lease_of_its_urgency() -> None:
    parked = [turn("parked", left_s=10)]
    assert choose(None, parked, [turn("later", left_s=9)], BOUNDS) == "parked"
    assert choose(None, parked, [turn("short", left_s=2)], BOUNDS) == "short"
    assert choose(None, parked, [turn("urgent", urgency=0, left_s=99)], BOUNDS) == "urgent"


def test_what_waited_aside_too_long_goes_on_before_anything_that_has_not_begun() -> None:
    parked = [turn("parked", parked_s=61, left_s=10)]
    assert choose(None, parked, [turn("urgent", urgency=0)], BOUNDS) == "parked"
    assert choose(turn("running", left_s=50), parked, [], BOUNDS) == "parked"
    assert choose(turn("urgent", urgency=0), parked, [], BOUNDS) == "urgent"


def test_equally_urgent_leases_go_in_the_order_they_came() -> None:
    assert choose(None, [], [turn("first", left_s=9), turn("second", left_s=1)], BOUNDS) == "first"
    assert choose(None, [], [turn("first"), turn("urgent", urgency=0)], BOUNDS) == "urgent"


def test_everything_ends_and_nothing_is_put_aside_beyond_the_bounds() -> None:
    """Random arrivals, a step a second: no render is parked too often, too many are never parked, and all of them end."""
    for seed in range(30):
        _simulate(random.Random(seed))


def _simulate(rng: random.Random) -> None:
    left: dict[int, float] = {}
    urgency: dict[int, int] = {}
    times, parked_s = dict.fromkeys(range(40), 0), dict.fromkeys(range(40), 0.0)
    waiting, parked, running, coming, done = [], [], None, iter(range(40)), 0
    for now in itertools.count():
        if rng.random() < 0.2 and (name := next(coming, None)) is not None:
            left[name], urgency[name] = rng.choice([3, 10, 50]), rng.randrange(3)
            waiting.append(name)

        def as_turn(name: int) -> Turn[int]:
            return Turn(of=name, urgency=urgency[name], left_s=left[name], times=times[name], parked_s=parked_s[name])

        chosen = choose(
            as_turn(running) if running is not None else None, [as_turn(one) for one in parked], [as_turn(one) for one in waiting], BOUNDS
        )
        if chosen is not None and chosen != running:
            if running is not None:
                parked.append(running)
                times[running] += 1
            (parked if chosen in parked else waiting).remove(chosen)
            running = chosen
        assert len(parked) <= BOUNDS.max_parked
        for name in parked:
            parked_s[name] += 1
        if running is not None:
            left[running] -= 1
            if left[running] <= 0:
                running, done = None, done + 1
        if done == 40:
            break
        assert now < 5000
    assert max(times.values()) <= BOUNDS.max_times
