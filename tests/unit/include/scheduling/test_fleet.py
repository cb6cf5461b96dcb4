from __future__ import annotations

import pytest

from include.contracts.workers import Hello
from include.scheduling.fleet import Fleet, Worker


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(silent_after_s=3.0, lookahead=2)


def add(fleet: Fleet, name: str, *, now: float = 0.0, slots: int = 1, warm: tuple[str, ...] = ()) -> Worker:
    message = Hello(worker_id=name, incarnation="i", cell="cell-0", pool="standard", at=now, slots=slots, warm_models=warm)
    worker = fleet.admit(message, now)
    fleet.grant(worker, message)
    return worker


def test_nobody_has_room_in_an_empty_fleet(fleet: Fleet) -> None:
    assert not fleet.has_room() and fleet.pick("m/1", "", 0.0) is None


def test_warmth_is_looked_for_among_the_first_few_only(fleet: Fleet) -> None:
    for name in ("a", "b"):
        add(fleet, name)
    add(fleet, "far", warm=("m/1",))
    picked = fleet.pick("m/1", "", 0.0)
    assert picked is not None and picked[0].id == "a"


def test_the_worker_that_failed_is_avoided_where_there_is_another(fleet: Fleet) -> None:
    add(fleet, "a", warm=("m/1",))
    add(fleet, "b")
    picked = fleet.pick("m/1", "a", 0.0)
    assert picked == (fleet.get("b"), "idle, cold")


def test_it_is_taken_where_there_is_none(fleet: Fleet) -> None:
    add(fleet, "a")
    picked = fleet.pick("m/1", "a", 0.0)
    assert picked is not None and picked[0].id == "a"


def test_the_silent_have_no_room(fleet: Fleet) -> None:
    add(fleet, "a", now=0.0)
    add(fleet, "b", now=2.0)
    assert fleet.live(4.0) == 1
    picked = fleet.pick("m/1", "", 4.0)
    assert picked is not None and picked[0].id == "b"
    assert fleet.pick("m/1", "", 9.0) is None and not fleet.has_room()


def test_credit_is_never_negative(fleet: Fleet) -> None:
    worker = add(fleet, "a", slots=1)
    worker.foreign = 5
    fleet.settle(worker)
    assert worker.free == 0 and not fleet.has_room()


def test_the_long_silent_are_forgotten(fleet: Fleet) -> None:
    add(fleet, "a")
    add(fleet, "b", now=50.0)
    assert [worker.id for worker in fleet.forget(60.0, 61.0)] == ["a"]
    assert len(fleet) == 1 and fleet.get("a") is None
