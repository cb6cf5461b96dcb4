"""The client of Airflow's REST API: what it sends, how it reads answers, what it raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from include.lifecycle.airflow_api import (
    AirflowApi,
    AirflowError,
    AirflowUnreachableError,
    DagRunFailedError,
    DagRunRefusedError,
    Progress,
    RunState,
    TaskRun,
)

RUN: dict[str, Any] = {"dag_id": "d", "dag_run_id": "r+1", "state": "running", "conf": {"a": 1}, "start_date": None, "end_date": None}
TASK: dict[str, Any] = {"task_id": "t", "map_index": -1, "state": "running", "try_number": 1, "duration": None, "pid": 7, "start_date": "x"}
Answer = Callable[[httpx.Request], httpx.Response]


def api(answer: Answer) -> AirflowApi:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token"})
        return answer(request)

    return AirflowApi("http://airflow", "admin", "secret", transport=httpx.MockTransport(handle))


def test_a_run_is_triggered_with_its_parameters_and_the_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=RUN)

    run = api(answer).trigger("d", {"limit": 3})
    assert (run.run_id, run.state) == ("r+1", RunState.RUNNING)
    assert json.loads(seen[0].content) == {"logical_date": None, "conf": {"limit": 3}}
    assert seen[0].headers["Authorization"] == "Bearer token"
    assert seen[0].url.path == "/api/v2/dags/d/dagRuns"


def test_a_refused_parameter_is_told_in_airflows_words() -> None:
    with pytest.raises(DagRunRefusedError, match="Invalid input for param limit"):
        api(lambda _: httpx.Response(400, json={"detail": "Invalid input for param limit: 0"})).trigger("d", {"limit": 0})


def test_an_expired_token_is_renewed_once() -> None:
    answers = iter([httpx.Response(401, json={"detail": "expired"}), httpx.Response(200, json=RUN)])
    assert api(lambda _: next(answers)).state("d", "r") is RunState.RUNNING


def test_a_wrong_password_is_an_error_that_names_the_user() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json={"detail": "Invalid credentials"}))
    with pytest.raises(AirflowError, match="login as admin was refused: Invalid credentials"):
        AirflowApi("http://airflow", "admin", "x", transport=transport).dag_ids()


def test_nobody_there_is_an_error_of_its_own() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(AirflowUnreachableError, match="http://airflow"):
        api(refuse).dag_ids()


def routes(table: dict[str, Any]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().split("?")[0].removeprefix("/api/v2/dags/d/dagRuns/r%2B1")
        found = table[path]
        return httpx.Response(200, json=found.pop(0) if isinstance(found, list) else found)

    return answer


def test_waiting_reports_progress_and_survives_an_absent_server() -> None:
    answers: list[Any] = [RUN, httpx.ConnectError("away"), {**RUN, "state": "success"}]
    table = {
        "/taskInstances": {"task_instances": [TASK]},
        "/taskInstances/t/logs/1": {"content": [{"timestamp": "now", "event": "step 3/9"}]},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("r+1"):
            return routes(table)(request)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(200, json=found)

    seen: list[Progress] = []
    run = api(answer).wait("d", "r+1", timeout_s=10, poll_s=0, on_progress=seen.append)
    assert run.state is RunState.SUCCESS
    assert [progress.line for progress in seen] == ["step 3/9", "step 3/9"]


def test_a_failed_run_tells_which_task_and_why() -> None:
    detail = [{"exc_type": "LookupError", "exc_value": "dataset_version: there is none"}]
    table = {
        "": {**RUN, "state": "failed"},
        "/taskInstances": {"task_instances": [{**TASK, "state": "failed"}]},
        "/taskInstances/t/logs/1": {"content": [{"event": "::endgroup::"}, {"event": "Task failed", "error_detail": detail}]},
    }
    with pytest.raises(DagRunFailedError, match=r"failed in t\nTask failed\nLookupError: dataset_version: there is none"):
        api(routes(table)).wait("d", "r+1", timeout_s=10, poll_s=0)


def test_a_run_that_goes_on_too_long_is_a_timeout() -> None:
    with pytest.raises(TimeoutError, match="still running after 0 s"):
        api(routes({"": RUN})).wait("d", "r+1", timeout_s=0.05, poll_s=0.01)


def test_tasks_come_in_the_order_they_started_and_a_mapped_one_shows_its_index() -> None:
    later = {**TASK, "task_id": "a", "start_date": "y", "map_index": 2, "state": None}
    waiting = {**TASK, "task_id": "b", "start_date": None}
    tasks = api(routes({"/taskInstances": {"task_instances": [waiting, later, TASK]}})).task_states("d", "r+1")
    assert [task.label for task in tasks] == ["t", "a[2]", "b"]
    assert tasks[1].state == "none"


@pytest.mark.parametrize(("beat_s_ago", "offered"), [(0, ["settled"]), (28, []), (None, [])])
def test_an_approval_is_offered_once_the_scheduler_has_seen_that_it_waits(beat_s_ago: float | None, offered: list[str]) -> None:
    now = datetime.now(UTC)
    ages = {"fresh": now, "settled": now - timedelta(seconds=30), "past": now - timedelta(seconds=30)}
    states = {"fresh": "awaiting_input", "settled": "awaiting_input", "past": "running"}
    details = [{"task_instance": {"task_id": name, "state": states[name]}, "created_at": at.isoformat()} for name, at in ages.items()]
    beat = None if beat_s_ago is None else (now - timedelta(seconds=beat_s_ago)).isoformat()
    health = {"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": beat}}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=health if request.url.path.endswith("/monitor/health") else {"hitl_details": details})

    assert api(answer).approvals("d", "r+1") == offered


def test_a_task_that_has_not_started_has_no_log() -> None:
    task = TaskRun(task_id="t", map_index=-1, state="none", try_number=0, duration_s=None, pid=None)
    assert api(routes({})).log("d", "r+1", task) == []
