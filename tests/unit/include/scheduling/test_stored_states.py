"""What an earlier release left in its savepoint, this one goes on with: the release of each format wrote its file of ``states``."""

from __future__ import annotations

import pytest

from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.contracts.requests import ServiceClass
from include.scheduling import records
from tests.unit.include.scheduling.harness import Desk, events, letters
from tests.unit.include.scheduling.stored_states import FOLDER, load

FILES = sorted(FOLDER.glob("format_*.json"))
OPEN = {"running", "failed-once", "waits-high", "waits-too", "waits-low", "scenic"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def restored(request: pytest.FixtureRequest) -> Desk:
    desk = Desk(load(request.param))
    assert desk.tick(0.1) == []
    return desk


def test_every_format_has_a_state() -> None:
    assert [path.stem for path in FILES] == [f"format_{number}" for number in range(1, int(records._FORMAT) + 1)]


def test_the_queue_and_the_leases_are_what_they_were(restored: Desk) -> None:
    scheduler = restored.scheduler
    assert set(scheduler.entries()) == OPEN
    assert {name for lease in scheduler.leases().values() for name in lease.entries} == {"running", "waits-high"}
    assert [scheduler.depth(lane) for lane in (Lane.HIGH, Lane.LOW)] == [1, 2]
    assert scheduler.entries()["waits-low"].request.prompt == 'Bär 🐻\t"x"'
    assert scheduler.entries()["failed-once"].failures == 1


def test_each_open_request_completes_once(restored: Desk) -> None:
    restored.credit("w-0", slots=2)
    restored.tick(5.0)
    restored.hello("w-1", slots=6)
    for name in OPEN - {"running", "waits-high"}:
        restored.complete(restored.leased(name), name)
    restored.tick(31.0)  # w-0 fell silent; what it held goes to the other worker
    restored.credit("w-1", slots=6)
    restored.tick(5.0)
    restored.credit("w-1", slots=6)
    for name in ("running", "waits-high"):
        restored.complete(restored.leased(name), name)
    assert {name: restored.ends(name) for name in OPEN} == {name: [State.COMPLETED] for name in OPEN}
    assert restored.leased("scenic").tasks[0].steps == 6
    assert restored.leased("failed-once").attempt == 2


def test_ids_and_cancellations_still_hold(restored: Desk) -> None:
    assert [one.reason.code for one in letters(restored.submit("over", tenant="c"))] == [ReasonCode.DUPLICATE_ID]
    restored.submit("comes-later", tenant="c")
    assert restored.ends("comes-later") == [State.CANCELLED]
    restored.submit("new", ServiceClass.BATCH, tenant="c", scenario="badge")
    assert [event.state for event in events(restored.decisions) if event.request_id == "new"] == [State.QUEUED]
