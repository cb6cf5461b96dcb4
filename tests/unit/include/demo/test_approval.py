from __future__ import annotations

import json

import httpx
import pytest

from include.demo.approval import Approver
from include.lifecycle.airflow_api import AirflowApi, AirflowError


class Airflow:
    """Answers as Airflow's REST API does while a task waits for a person."""

    def __init__(self) -> None:
        self.waiting = ["approve"]
        self.answers: list[tuple[str, dict[str, object]]] = []
        self.away = self.refuses = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("nobody there")
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token"})
        if request.method == "PATCH":
            if self.refuses:
                return httpx.Response(403, json={"detail": "not yours to approve"})
            self.answers.append((request.url.path, json.loads(request.content)))
            self.waiting = []
            return httpx.Response(200, json={})
        if request.url.path == "/api/v2/monitor/health":
            return httpx.Response(200, json={"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-01-01T00:01:00+00:00"}})
        tasks = [{"task_id": name, "state": "awaiting_input"} for name in self.waiting]
        details = [{"task_instance": task, "created_at": "2026-01-01T00:00:00+00:00"} for task in tasks]
        return httpx.Response(200, json={"hitl_details": details})


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def approver(airflow: Airflow, said: list[str]) -> Approver:
    api = AirflowApi("http://airflow", "admin", "secret", transport=httpx.MockTransport(airflow))
    return Approver(api, "http://airflow", "promote_model", "demo-1", said.append)


def test_what_waits_is_approved_once_and_told_with_its_address(approver: Approver, airflow: Airflow, said: list[str]) -> None:
    approver.look()
    approver.look()
    ((path, answer),) = airflow.answers
    assert "promote_model" in path and "demo-1" in path and answer["chosen_options"] == ["Approve"]
    assert [given.task_id for given in approver.given] == ["approve"]
    assert approver.given[0].url in said[0]


def test_where_nothing_waits_nothing_is_given(approver: Approver, airflow: Airflow) -> None:
    airflow.waiting = []
    approver.look()
    assert not approver.given and not airflow.answers


def test_an_airflow_that_is_away_is_asked_again(approver: Approver, airflow: Airflow) -> None:
    airflow.away = True
    approver.look()
    airflow.away = False
    approver.look()
    assert len(approver.given) == 1


def test_a_refused_approval_is_an_error(approver: Approver, airflow: Airflow) -> None:
    airflow.refuses = True
    with pytest.raises(AirflowError, match="not yours"):
        approver.look()
    assert not approver.given
