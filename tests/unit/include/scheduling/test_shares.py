from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.events import Lane
from include.contracts.policy import default_floors, default_objectives
from include.scheduling.shares import LEAST_OF_BASE, MOST, STEP, ShareControl, SharesMove

BASE, OBJECTIVES = default_floors(), default_objectives()
HIGH, NORMAL, LOW = Lane


def waits(high: float = 0.0, normal: float = 0.0, low: float = 0.0) -> dict[Lane, float]:
    return {HIGH: high, NORMAL: normal, LOW: low}


@pytest.fixture
def control() -> ShareControl:
    control = ShareControl()
    assert control.update(waits(), BASE, OBJECTIVES, 0.0) is None
    return control


def moves(control: ShareControl, oldest: dict[Lane, float], begin: float, seconds: int) -> list[SharesMove]:
    found = [control.update(oldest, BASE, OBJECTIVES, begin + second) for second in range(seconds)]
    return [move for move in found if move is not None]


def test_a_lane_that_waits_too_long_is_lent_share(control: ShareControl) -> None:
    move = control.update(waits(high=0.4, normal=95.0, low=1800.0), BASE, OBJECTIVES, 10.0)
    assert move is not None
    assert move.before == BASE and move.after == {HIGH: 0.45, NORMAL: 0.2, LOW: 0.05} == control.shares
    assert move.reason == "normal waits 95 s against 60 s; high waits 0.4 s against 5 s: 0.05 moves from high to normal"


def test_the_waits_of_what_was_dispatched_count_like_those_of_what_still_waits(control: ShareControl) -> None:
    for second in range(20):
        control.observe(NORMAL, 100.0, float(second))
    move = control.update(waits(), BASE, OBJECTIVES, 20.0)
    assert move is not None and move.after[NORMAL] > BASE[NORMAL]
    assert control.update(waits(), BASE, OBJECTIVES, 300.0) is not None, "long after, they don't: the share drifts back"
    assert control.shares == BASE


def test_the_lane_with_the_longest_wait_by_its_objective_comes_first(control: ShareControl) -> None:
    move = control.update(waits(normal=90.0, low=18_000.0), BASE, OBJECTIVES, 10.0)
    assert move is not None and move.after == {HIGH: 0.45, NORMAL: 0.15, LOW: 0.1}


def test_nothing_moves_within_the_dead_band_or_more_often_than_said(control: ShareControl) -> None:
    assert not moves(control, waits(high=5.9, normal=71.0, low=1500.0), 10.0, 60)
    assert len(moves(control, waits(normal=95.0), 100.0, 11)) == 3


def test_nobody_gives_who_waits_close_to_its_objective_itself(control: ShareControl) -> None:
    assert not moves(control, waits(high=4.5, normal=600.0, low=1700.0), 10.0, 60)


def dispatch(control: ShareControl, until: float, **device_s: float) -> None:
    """One request of each of these lanes every second for a minute."""
    for second in range(60):
        for name, seconds in device_s.items():
            control.observe(Lane(name), 0.0, until - 60 + second, seconds)


def test_a_lane_that_gets_more_than_its_floor_has_no_use_for_a_higher_one(control: ShareControl) -> None:
    dispatch(control, 100.0, high=0.4, normal=0.55, low=0.05)
    assert not moves(control, waits(normal=600.0), 100.0, 60)


def test_a_lane_that_its_floor_holds_up_borrows(control: ShareControl) -> None:
    dispatch(control, 100.0, high=0.4, normal=0.55, low=0.05)
    assert moves(control, waits(normal=600.0, low=3600.0), 100.0, 60)[-1].after == pytest.approx({HIGH: 0.4, NORMAL: 0.15, LOW: 0.15})


def test_a_lane_that_pays_for_what_another_borrowed_makes_it_go_back(control: ShareControl) -> None:
    moves(control, waits(low=3600.0), 10.0, 30)
    dispatch(control, 100.0, high=0.4, normal=0.45, low=0.15)
    assert not moves(control, waits(normal=95.0, low=1700.0), 100.0, 5), "not while that one needs it"
    move = control.update(waits(normal=95.0, low=900.0), BASE, OBJECTIVES, 110.0)
    assert move is not None and move.after == {HIGH: 0.45, NORMAL: 0.15, LOW: 0.1}
    assert move.reason == "normal waits 95 s against 60 s; low waits 900 s against 1800 s: 0.05 moves back from low to high"


def test_the_lower_lanes_lend_nothing_of_what_the_policy_promises_them(control: ShareControl) -> None:
    assert not moves(control, waits(high=50.0), 10.0, 60)
    assert not moves(control, waits(high=4.0, low=18_000.0), 100.0, 60)


def test_the_high_lane_keeps_by_priority_what_its_base_promises(control: ShareControl) -> None:
    moves(control, waits(normal=600.0, low=18_000.0), 10.0, 600)
    assert 1 - control.shares[NORMAL] - control.shares[LOW] >= BASE[HIGH]


def test_a_share_ends_at_its_limits(control: ShareControl) -> None:
    moves(control, waits(normal=600.0), 10.0, 600)
    assert control.shares == pytest.approx({HIGH: 0.25, NORMAL: 0.4, LOW: 0.05})
    assert not moves(control, waits(normal=600.0), 1000.0, 60)


def test_a_lane_never_gets_more_than_three_times_its_base() -> None:
    control = ShareControl()
    control.update(waits(), BASE, OBJECTIVES, 0.0)
    moves(control, waits(low=1e5), 10.0, 600)
    assert control.shares[LOW] == pytest.approx(0.15)


def test_what_was_lent_is_taken_back_even_from_who_needs_it(control: ShareControl) -> None:
    moves(control, waits(normal=600.0), 10.0, 60)
    taken = moves(control, waits(high=50.0, normal=600.0, low=18_000.0), 100.0, 120)
    assert taken[0].reason.endswith("moves back from normal to high")
    assert control.shares == pytest.approx(BASE)


def test_when_all_are_well_the_shares_drift_back_exactly(control: ShareControl) -> None:
    moves(control, waits(normal=600.0), 10.0, 30)
    assert not moves(control, waits(normal=55.0), 100.0, 60), "just within its objective it keeps what got it there"
    drifts = moves(control, waits(normal=10.0), 200.0, 60)
    assert control.shares == BASE and len(drifts) > 2
    assert drifts[0].reason.endswith("0.05 drifts back")
    assert not moves(control, waits(), 300.0, 60)


def test_another_base_takes_effect_at_once(control: ShareControl) -> None:
    control.update(waits(normal=95.0), BASE, OBJECTIVES, 10.0)
    other = {HIGH: 0.3, NORMAL: 0.3, LOW: 0.1}
    move = control.update(waits(normal=95.0), other, OBJECTIVES, 11.0)
    assert move is not None and move.after == other == control.shares and move.before[HIGH] == 0.45


shares = st.lists(st.floats(0.0, 0.32), min_size=3, max_size=3).map(lambda values: dict(zip(Lane, values, strict=True)))
times = st.tuples(st.floats(0, 50), st.floats(0, 600), st.floats(0, 18_000))


@given(shares, st.lists(st.tuples(times, st.floats(0, 20)), max_size=60))
def test_sum_limits_and_step_hold_whatever_is_measured(base: dict[Lane, float], path: list[tuple[tuple[float, ...], float]]) -> None:
    control, now, moved_at = ShareControl(every_s=5.0), 0.0, -5.0
    control.update({}, base, OBJECTIVES, now)
    for measured, elapsed in path:
        now += elapsed
        for lane, waited in zip(Lane, measured, strict=True):
            control.observe(lane, waited / 2, now, elapsed * waited)
        oldest = dict(zip(Lane, measured, strict=True))
        copy = ShareControl(every_s=5.0)
        copy.restore(control.encode())
        move = control.update(oldest, base, OBJECTIVES, now)
        assert copy.update(oldest, base, OBJECTIVES, now) == move
        if move is None:
            continue
        assert now - moved_at >= 5.0
        moved_at = now
        assert sum(move.after.values()) == pytest.approx(sum(base.values()), abs=1e-6)
        for lane in Lane:
            assert abs(move.after[lane] - move.before[lane]) <= STEP + 1e-6
            least, most = LEAST_OF_BASE[lane] * base[lane], max(base[lane], min(3 * base[lane], MOST))
            assert least - 1e-6 <= move.after[lane] <= most + 1e-6
