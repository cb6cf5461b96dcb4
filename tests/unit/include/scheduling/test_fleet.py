from __future__ import annotations

import pytest

from include.contracts.policy import PoolRule
from include.contracts.workers import Hello
from include.scheduling.fleet import Fleet, Placing, Worker


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(silent_after_s=3.0, lookahead=2, switch_s=5.0)


def add(fleet: Fleet, name: str, *, now: float = 0.0, slots: int = 1, warm: tuple[str, ...] = (), pool: str = "standard") -> Worker:
    message = Hello(worker_id=name, incarnation="i", cell="cell-0", pool=pool, at=now, slots=slots, warm_models=warm)
    worker = fleet.admit(message, now)
    fleet.grant(worker, message)
    return worker


def pick(fleet: Fleet, avoid: str = "", now: float = 0.0, *, urgency: float = 1.0, **rules: PoolRule) -> tuple[str, str] | None:
    placing = Placing(pools=frozenset(("standard", "spot")), model="m/1", avoid=avoid, predicted_s=2.0, urgency=urgency)
    picked = fleet.pick(placing, rules, now)
    return None if picked is None else (picked[0].id, picked[1])


def test_nobody_has_room_in_an_empty_fleet(fleet: Fleet) -> None:
    assert not fleet.open_pools and pick(fleet) is None


def test_warmth_is_looked_for_among_the_first_few_only(fleet: Fleet) -> None:
    for name in ("a", "b"):
        add(fleet, name)
    add(fleet, "far", warm=("m/1",))
    assert pick(fleet) == ("a", "idle, cold")


def test_the_worker_that_failed_is_avoided_where_there_is_another(fleet: Fleet) -> None:
    add(fleet, "a", warm=("m/1",))
    add(fleet, "b")
    assert pick(fleet, "a") == ("b", "idle, cold")


def test_it_is_taken_where_there_is_none(fleet: Fleet) -> None:
    add(fleet, "a")
    assert pick(fleet, "a") == ("a", "idle, cold")


def test_the_silent_have_no_room(fleet: Fleet) -> None:
    add(fleet, "a", now=0.0)
    add(fleet, "b", now=2.0)
    assert fleet.live(4.0) == 1
    assert pick(fleet, now=4.0) == ("b", "idle, cold")
    assert pick(fleet, now=9.0) is None and not fleet.open_pools


def test_credit_is_never_negative(fleet: Fleet) -> None:
    worker = add(fleet, "a", slots=1)
    worker.foreign = 5
    fleet.settle(worker)
    assert worker.free == 0 and not fleet.open_pools


def test_the_long_silent_are_forgotten(fleet: Fleet) -> None:
    add(fleet, "a")
    add(fleet, "b", now=50.0)
    assert [worker.id for worker in fleet.forget(60.0, 61.0)] == ["a"]
    assert len(fleet) == 1 and fleet.get("a") is None


def test_a_hurry_pays_the_dearer_pool_and_patience_the_cheaper(fleet: Fleet) -> None:
    """The cheap one would have to load the model first: 5 s."""
    add(fleet, "dear", pool="standard", warm=("m/1",))
    add(fleet, "cheap", pool="spot")
    prices = {"standard": PoolRule(price=3.0), "spot": PoolRule(price=0.5)}
    assert pick(fleet, urgency=10.0, **prices) == ("dear", "idle, warm, price 3")
    assert pick(fleet, urgency=0.1, **prices) == ("cheap", "idle, cold, price 0.5")


def test_a_pool_closes_with_its_last_room(fleet: Fleet) -> None:
    add(fleet, "a", pool="spot")
    worker = add(fleet, "b")
    assert fleet.open_pools == {"spot", "standard"}
    worker.foreign = 1
    fleet.settle(worker)
    assert fleet.open_pools == {"spot"}
