"""DAG runs of the demo: begun at once, followed when their turn comes."""

from __future__ import annotations

import json
import time
from io import StringIO
from typing import Any

import httpx
import pytest
from rich.console import Console

from include.demo.airflow_runs import begin_dag, follow_dag
from include.demo.steps import StepFailedError
from include.lifecycle.airflow_api import AirflowApi

RUN: dict[str, Any] = {"dag_id": "d", "dag_run_id": "r", "conf": {}, "start_date": None, "end_date": None}


class Airflow:
    """Answers as Airflow's REST API does about one run."""

    def __init__(self) -> None:
        self.state = "success"
        self.triggered: list[dict[str, Any]] = []
        self.refuses = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v2/dags/d/dagRuns")
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token"})
        if request.method == "POST" and self.refuses:
            return httpx.Response(422, json={"detail": "Invalid input for param steps"})
        if request.method == "POST":
            self.triggered.append(json.loads(request.content))
        if path == "/r/taskInstances":
            return httpx.Response(200, json={"task_instances": []})
        if path.startswith("/r/taskInstances/last/xcomEntries"):
            return httpx.Response(200, json={"value": {"version": "3"}})
        return httpx.Response(200, json={**RUN, "state": self.state})


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def api(airflow: Airflow) -> AirflowApi:
    return AirflowApi("http://airflow", "admin", "secret", transport=httpx.MockTransport(airflow))


def test_a_begun_run_is_followed_to_its_result_and_timed_from_its_beginning(api: AirflowApi, airflow: Airflow) -> None:
    begun = begin_dag(api, "d", {"steps": 3}, run_id="r", result_of="last")
    assert [(body["dag_run_id"], body["conf"]) for body in airflow.triggered] == [("r", {"steps": 3})]
    looks: list[float] = []
    finished = follow_dag(api, Console(file=StringIO()), begun, timeout_s=10, meanwhile=lambda: looks.append(time.monotonic()))
    assert (finished.dag_id, finished.run_id, finished.result) == ("d", "r", {"version": "3"})
    assert len(looks) == 1 and finished.seconds >= looks[0] - begun.began
    assert len(airflow.triggered) == 1


def test_a_run_that_airflow_refuses_fails_the_step_in_airflows_words(api: AirflowApi, airflow: Airflow) -> None:
    airflow.refuses = True
    with pytest.raises(StepFailedError, match="d: Invalid input for param steps"):
        begin_dag(api, "d", {}, run_id="r", result_of="last")


def test_a_failed_run_fails_the_step(api: AirflowApi, airflow: Airflow) -> None:
    begun = begin_dag(api, "d", {}, run_id="r", result_of="last")
    airflow.state = "failed"
    with pytest.raises(StepFailedError, match="d r failed in no task ran"):
        follow_dag(api, Console(file=StringIO()), begun, timeout_s=10)
