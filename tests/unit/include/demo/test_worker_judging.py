from __future__ import annotations

import pytest

from include.contracts.events import State
from include.demo.worker_judging import worker_faults
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import completed, event_of
from tests.unit.include.demo.worker_stage import Script, processing


@pytest.fixture
def script(store: ObjectStore) -> Script:
    return Script(store)


def the_fault(script: Script) -> str:
    (fault,) = worker_faults(script.acts())
    return fault


def test_all_well(script: Script) -> None:
    assert worker_faults(script.acts()) == []


def test_one_preview_shows_no_picture_taking_shape(script: Script) -> None:
    del script.frames[1:]
    assert the_fault(script).startswith("test-watched: 1 previews")


def test_a_cancelled_request_that_completed_all_the_same(script: Script) -> None:
    script.seen.events["test-cancelled"] = [completed(script.cancelled, script.store)]
    assert the_fault(script) == "test-cancelled: Completed although it was cancelled (HTTP 202)"


def test_a_worker_that_goes_on_with_what_was_cancelled(script: Script) -> None:
    assert script.render is not None
    script.render.freed_at = 995.0 + 2.5
    assert "went on for 2.5 s" in the_fault(script)


def test_a_slow_worker_may_finish_the_step_that_runs(script: Script) -> None:
    assert script.render is not None
    script.render.step, script.render.freed_at = 1, 995.0 + 2.5  # two seconds a step
    assert worker_faults(script.acts()) == []


def test_a_worker_that_never_let_go(script: Script) -> None:
    script.render = None
    assert "never said" in the_fault(script)


def test_a_request_that_ended_twice(script: Script) -> None:
    script.say(event_of(script.struck, State.FAILED, at=1020.0))
    assert "test-crash-0: 2 terminal events" in the_fault(script)


def test_a_request_lost_with_its_worker(script: Script) -> None:
    del script.seen.events["test-crash-0"][2:]
    assert the_fault(script) == "test-crash-0: Retrying worker worker-0 started anew while it held the lease"


def test_a_kill_that_came_too_late_shows_nothing(script: Script) -> None:
    script.seen.events["test-crash-0"] = [processing(script.struck, "worker-0"), completed(script.struck, script.store)]
    assert the_fault(script) == "worker-0 was killed while it rendered test-crash-0, and none of these was tried again"


def test_a_retry_says_why(script: Script) -> None:
    events = script.seen.events["test-crash-0"]
    events[1] = events[1].model_copy(update={"reason": None})
    assert the_fault(script) == "test-crash-0: tried again without a reason"


def test_a_worker_that_stays_away(script: Script) -> None:
    script.back_s = None
    assert the_fault(script) == "worker-0 did not come back after it was killed; see `atelier logs worker-0`"
