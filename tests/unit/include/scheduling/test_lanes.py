from __future__ import annotations

import pytest

from include.contracts.events import Lane
from include.scheduling.lanes import Lanes
from include.scheduling.records import Entry
from tests.unit.include.scheduling.test_fair_queue import Filler

FLOORS = {Lane.HIGH: 0.5, Lane.NORMAL: 0.15, Lane.LOW: 0.05}


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(FLOORS)


def fill(lanes: Lanes, lane: Lane, count: int, predicted_s: float = 1.0) -> None:
    make = Filler()
    for _ in range(count):
        entry = make(f"tenant-{lane.value}", predicted_s)
        entry.lane = lane
        lanes[lane].push(entry)


def serve(lanes: Lanes, count: int) -> list[Entry]:
    served = []
    for _ in range(count):
        head = lanes.next()
        assert head is not None
        lanes.serve(head, in_turn=True)
        served.append(head)
    return served


def share(served: list[Entry], lane: Lane) -> float:
    return sum(one.predicted_s for one in served if one.lane is lane) / sum(one.predicted_s for one in served)


def test_priority_is_strict_as_long_as_no_floor_is_owed(lanes: Lanes) -> None:
    fill(lanes, Lane.LOW, 3)
    fill(lanes, Lane.HIGH, 3)
    assert [one.lane for one in serve(lanes, 4)] == [Lane.HIGH] * 3 + [Lane.LOW]


@pytest.mark.parametrize("costs", [(1.0, 1.0, 1.0), (1.0, 3.0, 10.0), (10.0, 1.0, 0.1)])
def test_every_backlogged_lane_gets_its_floor(lanes: Lanes, costs: tuple[float, float, float]) -> None:
    for lane, cost in zip(Lane, costs, strict=True):
        fill(lanes, lane, 4000, cost)
    served = serve(lanes, 4000)
    for lane in Lane:
        assert share(served, lane) >= FLOORS[lane] - max(costs) / sum(one.predicted_s for one in served)


def test_what_the_floors_leave_goes_to_the_highest(lanes: Lanes) -> None:
    for lane in Lane:
        fill(lanes, lane, 1000)
    served = serve(lanes, 1000)
    assert share(served, Lane.HIGH) == pytest.approx(0.8, abs=0.01)


def test_an_empty_lane_is_owed_nothing(lanes: Lanes) -> None:
    fill(lanes, Lane.HIGH, 1000)
    serve(lanes, 900)
    fill(lanes, Lane.LOW, 100)
    assert share(serve(lanes, 100), Lane.LOW) <= 0.06


def test_a_batch_is_filled_from_its_own_lane_first(lanes: Lanes) -> None:
    fill(lanes, Lane.LOW, 1)
    fill(lanes, Lane.HIGH, 1)
    head = lanes[Lane.LOW].head()
    assert head is not None
    shape = head.shape
    found = lanes.alike(shape, Lane.LOW)
    assert found is not None and found.lane is Lane.LOW
    lanes.serve(found, in_turn=True)
    found = lanes.alike(shape, Lane.LOW)
    assert found is not None and found.lane is Lane.HIGH


def test_nothing_waits(lanes: Lanes) -> None:
    assert lanes.next() is None
    assert len(lanes) == 0


@pytest.mark.parametrize("floors", [dict.fromkeys(Lane, 0.4), {Lane.HIGH: -0.1, Lane.NORMAL: 0.1, Lane.LOW: 0.1}])
def test_floors_that_cannot_be_kept_are_refused(floors: dict[Lane, float]) -> None:
    with pytest.raises(ValueError, match="floors"):
        Lanes(floors)
