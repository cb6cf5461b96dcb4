"""A submission that got no answer may have been taken all the same; a second job would dispatch everything twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from include.config import Settings
from include.platform import flink_jobs, router
from include.platform.flink_jobs import SubmissionTimeoutError
from include.platform.router import Router, read_state


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The jobs that the JobManager knows; its client never answers."""
    known: list[dict[str, Any]] = []

    def submit(*_: object, **__: object) -> str:
        raise SubmissionTimeoutError("no answer from the Flink client in 180 s")

    monkeypatch.setattr(flink_jobs, "jobs", lambda _: known)
    monkeypatch.setattr(router, "submit_job", submit)
    return known


def job(name: str, state: str, started: float) -> dict[str, Any]:
    return {"jid": f"{name}-{state}", "name": name, "state": state, "start-time": 1000 * started, "tasks": {}}


def test_a_job_that_was_taken_without_an_answer_is_kept(settings: Settings, cluster: list[dict[str, Any]]) -> None:
    watch = Router(settings)
    with pytest.raises(SubmissionTimeoutError):
        watch.submit()
    cluster.append(job("route_requests", "RUNNING", time.time()))
    watch.submit()
    assert watch.job_id == read_state(settings).job_id == "route_requests-RUNNING"


@pytest.mark.parametrize(
    ("name", "state", "age_s"), [("other", "RUNNING", 0), ("route_requests", "FAILED", 0), ("route_requests", "RUNNING", 60)]
)
def test_others_and_ended_and_earlier_ones_are_not_taken_for_it(
    settings: Settings, cluster: list[dict[str, Any]], name: str, state: str, age_s: float
) -> None:
    watch = Router(settings)
    with pytest.raises(SubmissionTimeoutError):
        watch.submit()
    cluster.append(job(name, state, time.time() - age_s))
    with pytest.raises(SubmissionTimeoutError):
        watch.submit()
    assert not watch.job_id
