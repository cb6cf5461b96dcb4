"""The real scheduler's dead letters, redriven into the same scheduler: what goes back is taken, and runs once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.client.dead_letters import Action, IdUse, Letters, Planner, Redrive, Selection
from include.client.reader import Record
from include.client.why import explain
from include.contracts.dead_letters import DeadLetter
from include.contracts.dispatch import Lease
from include.contracts.events import State, StatusEvent
from include.contracts.requests import GenerationRequest, ServiceClass
from include.routing.parse import parse_request
from tests.unit.include.scheduling.harness import Desk, route


def events(desk: Desk) -> Iterator[StatusEvent]:
    return (one for one in desk.decisions if isinstance(one, StatusEvent))


def plan(desk: Desk, **options: bool) -> list[Redrive]:
    """As the command makes it from the topics."""
    letters, uses = Letters(selection=Selection()), dict[str, IdUse]()
    for offset, one in enumerate(one for one in desk.decisions if isinstance(one, DeadLetter)):
        letters.take(Record(value=one.to_json(), partition=0, offset=offset))
    for event in events(desk):
        uses.setdefault(event.request_id, IdUse(tenant=event.tenant, state=event.state)).take(event)
    return Planner(uses, {}, now=desk.now, **options).plan(letters.all())


def put_back(desk: Desk, redrives: list[Redrive]) -> list[str]:
    """Sends what is to be sent; returns the ids that the scheduler queued."""
    queued = []
    for one in redrives:
        if one.action is Action.SEND:
            text = one.value.decode("latin-1")
            request = parse_request(text)
            assert isinstance(request, GenerationRequest)
            decisions = desk.take(desk.scheduler.submit(request, text, ServiceClass.REALTIME, desk.now))
            queued += [event.request_id for event in decisions if isinstance(event, StatusEvent) and event.state is State.QUEUED]
    return queued


def fail_for_good(desk: Desk, name: str) -> None:
    lease = next(one for one in reversed(desk.decisions) if isinstance(one, Lease) and one.tasks[0].request_id == name)
    desk.fail(lease, name, retryable=False)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_failed_request_runs_under_its_new_id(desk: Desk) -> None:
    desk.hello()
    desk.submit("r1")
    fail_for_good(desk, "r1")
    desk.tick(1.0)
    assert put_back(desk, plan(desk)) == ["r1-r1"]
    fail_for_good(desk, "r1-r1")
    desk.tick(1.0)
    assert [(one.action, one.request_id) for one in plan(desk)] == [(Action.NOTHING, None), (Action.SEND, "r1-r2")]
    assert put_back(desk, plan(desk)) == ["r1-r2"]


def test_a_refused_request_runs_under_its_own_id_once_there_is_a_model() -> None:
    desk = Desk(routed=False)
    desk.control(route(serving=False))
    desk.submit("r1", model="landscape")
    desk.tick(10.0)
    desk.control(route("landscape"))
    desk.tick(1.0)
    assert put_back(desk, plan(desk)) == ["r1"]
    assert [one.action for one in plan(desk)] == [Action.NOTHING]


def test_a_repeated_id_runs_again_only_under_another(desk: Desk) -> None:
    desk.submit("r1")
    desk.submit("r1", prompt="another heart")
    assert put_back(desk, plan(desk)) == []
    assert put_back(desk, plan(desk, new_ids=True)) == ["r1-r1"]


def test_a_redrive_that_is_sent_twice_runs_once(desk: Desk) -> None:
    desk.hello()
    desk.submit("r1")
    fail_for_good(desk, "r1")
    desk.tick(1.0)
    redrives = plan(desk)
    assert put_back(desk, redrives + redrives) == ["r1-r1"]


def test_after_the_window_the_id_itself_is_taken_again(desk: Desk) -> None:
    desk.hello()
    desk.submit("r1")
    fail_for_good(desk, "r1")
    desk.live(20, "w-0")
    desk.tick(24 * 3600.0)
    assert put_back(desk, plan(desk)) == ["r1"]


def test_every_decision_of_a_life_is_told(desk: Desk) -> None:
    desk.hello(slots=1, max_batch=4)
    for name in ("r1", "r2", "r3"):
        desk.submit(name)
    lease = next(one for one in desk.decisions if isinstance(one, Lease))
    desk.tick(1.0)
    desk.progress(lease, 2)
    desk.complete(lease)
    told = explain([event for event in events(desk) if event.request_id == "r1"])
    assert [step.title for step in told.steps] == ["Queued", "Dispatched", "Rendering", "Completed"]
    assert all(step.lines for step in told.steps)
