"""What renders while the champion changes hands."""

from __future__ import annotations

from typing import Any

import pytest

from include.contracts.control import ModelRoute
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import State
from include.contracts.workers import Failed
from tests.unit.include.scheduling.harness import START, Desk, leases, route

NEW, OLD = "emoji/2", "emoji/1"


def moved(version: str = "2", before: str | None = "1", at: float = START) -> ModelRoute:
    previous = None if before is None else route(version=before).champion
    return route(version=version, at=at).model_copy(update={"previous": previous})


def versions(desk: Desk, *request_ids: str) -> list[str]:
    return [desk.leased(request_id).model.version for request_id in request_ids]


def submit(desk: Desk, count: int = 1) -> list[str]:
    names = [f"r-{number}" for number in range(count)]
    for name in names:
        desk.submit(name)
    return names


def refuse(desk: Desk, request_id: str, code: ReasonCode = ReasonCode.MODEL_LOAD_FAILED) -> None:
    lease = desk.leased(request_id)
    identity: dict[str, Any] = {name: getattr(lease, name) for name in ("worker_id", "incarnation", "cell", "pool", "lease_id")}
    desk.worker(Failed(**identity, at=desk.now, request_id=request_id, reason=Reason(code=code, message="rotten"), retryable=False))


def test_the_version_before_goes_on_until_the_new_one_is_loaded(desk: Desk) -> None:
    desk.hello(slots=2, warm_models=(OLD,))
    desk.control(moved())
    (first,) = submit(desk)
    assert versions(desk, first) == ["1"]
    assert desk.last(first).trace["why_worker"] == "idle, cold; version 2 is loaded nowhere yet, so 1 goes on"
    desk.credit(slots=2, warm_models=(OLD, NEW))
    desk.submit("later")
    assert versions(desk, "later") == ["2"]


def test_a_champion_that_is_loaded_anywhere_serves_at_once(desk: Desk) -> None:
    """As after a rollback: nobody gets an image of the version that was taken back."""
    desk.hello("has-both", slots=1, warm_models=(OLD, NEW))
    desk.hello("has-old", slots=1, warm_models=(OLD,))
    desk.control(moved())
    assert versions(desk, *submit(desk, 2)) == ["2", "2"]


def test_patience_has_an_end(desk: Desk) -> None:
    desk.hello(slots=2, warm_models=(OLD,))
    desk.control(moved())
    desk.now += 121.0
    desk.credit(slots=2, warm_models=(OLD,))
    assert versions(desk, *submit(desk)) == ["2"]


def test_a_worker_with_neither_loads_the_champion(desk: Desk) -> None:
    desk.hello(warm_models=("other/1",))
    desk.control(moved())
    assert versions(desk, *submit(desk)) == ["2"]


def test_a_refused_champion_leaves_the_version_before_for_as_long_as_it_is_refused(desk: Desk) -> None:
    desk.hello()
    desk.credit(refused_models=(NEW,))
    desk.control(moved())
    desk.live(300, "w-0")
    desk.credit(refused_models=(NEW,))
    (name,) = submit(desk)
    assert versions(desk, name) == ["1"]
    assert "refuses version 2" in desk.last(name).trace["why_worker"]


def test_a_worker_that_does_not_refuse_it_is_preferred(desk: Desk) -> None:
    desk.hello("no", warm_models=(OLD,))
    desk.credit("no", refused_models=(NEW,), warm_models=(OLD,))
    desk.hello("yes")
    desk.control(moved())
    (name,) = submit(desk)
    assert (desk.leased(name).worker_id, versions(desk, name)) == ("yes", ["2"])


def test_both_refused_the_champion_fails_as_it_must(desk: Desk) -> None:
    desk.hello()
    desk.credit(refused_models=(NEW, OLD))
    desk.control(moved())
    (name,) = submit(desk)
    assert versions(desk, name) == ["2"]
    refuse(desk, name)
    assert desk.states(name)[-1] is State.FAILED


def test_a_request_whose_worker_refused_the_version_renders_on_the_one_before(desk: Desk) -> None:
    desk.hello()
    desk.control(moved())
    (name,) = submit(desk)
    desk.credit(refused_models=(NEW,))
    refuse(desk, name)
    desk.tick(5.0)
    desk.credit(refused_models=(NEW,))
    assert versions(desk, name) == ["1"] and len(leases(desk.decisions)) == 2


def test_or_on_another_worker(desk: Desk) -> None:
    desk.control(moved(before=None))
    desk.hello("no")
    (name,) = submit(desk)
    desk.hello("yes")
    desk.credit("no", refused_models=(NEW,))
    refuse(desk, name)
    desk.tick(2.0)
    assert (desk.leased(name).worker_id, versions(desk, name)) == ("yes", ["2"])


@pytest.mark.parametrize(("refused", "code"), [((), ReasonCode.MODEL_LOAD_FAILED), ((NEW,), ReasonCode.UNSUPPORTED_SHAPE)])
def test_what_is_not_a_refusal_of_the_version_stays_final(desk: Desk, refused: tuple[str, ...], code: ReasonCode) -> None:
    desk.hello()
    desk.control(moved())
    (name,) = submit(desk)
    desk.credit(refused_models=refused)
    refuse(desk, name, code)
    assert desk.states(name)[-1] is State.FAILED


def test_what_the_worker_gave_up_is_told_with_what_the_task_says(desk: Desk) -> None:
    desk.hello()
    (name,) = submit(desk)
    desk.complete(desk.leased(name), degraded=("an earlier image",), cached=True)
    assert desk.last(name).degraded == ("an earlier image",)
