"""A promotion through Airflow with a canary: killed in the middle it goes on, and what live requests say decides."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from include.config import Settings
from include.contracts import topics
from include.contracts.events import State
from include.lifecycle import canary_run
from include.lifecycle.airflow_api import DagRunFailedError, TaskRun
from include.platform.kafka import create_topics
from include.platform.services import leftover_notes
from include.registry.aliases import get_alias, set_alias
from include.registry.client import RegistryClient
from include.registry.tags import CANARY_SHARE
from tests.integration.airflow.conftest import Lifecycle
from tests.support.kafka_client import send
from tests.support.registry import register
from tests.support.waiting import wait_for
from tests.unit.include.lifecycle.test_canary_figures import ended

MODEL = "on-trial"
MEASURED = {"kernel_distance": "0.1", "held_out_loss": "0.1", "seconds_per_image": "1.0", "size_mb": "1.0"}
CONF = {"model": MODEL, "approve": "yes", "canary_share": 0.5, "canary_min_requests": 5, "canary_minutes": 10}


@pytest.fixture(scope="package")
def two_versions(lifecycle: Lifecycle, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Both measured alike; the first is the champion."""
    settings, found = lifecycle.settings, []
    create_topics(settings)
    for content in ("one", "two"):
        directory = tmp_path_factory.mktemp(content)
        (directory / "model_index.json").write_text(f'{{"content": "{content}"}}')
        found.append(
            register(directory, MODEL, settings.mlflow, {f"atelier.eval.{name}": value for name, value in MEASURED.items()}).version
        )
    set_alias(MODEL, "champion", found[0], uri=settings.mlflow)
    return found[0], found[1]


def requests(settings: Settings, version: str, prefix: str, completed: int, failed: int = 0) -> None:
    for state, count in ((State.COMPLETED, completed), (State.FAILED, failed)):
        events = [ended(f"{prefix}-{version}-{state}-{number}", version, state, model=MODEL) for number in range(count)]
        send(settings, topics.EVENTS, *(event.to_json() for event in events))


def started(lifecycle: Lifecycle, version: str) -> str:
    """The id of a run whose canary is on its way."""
    run_id = lifecycle.api.trigger("promote_model", {**CONF, "version": version}).run_id
    wait_for(lambda: "canary since" in log(lifecycle, run_id), 120, "the canary to be watched", interval=1.0)
    return run_id


def canary_task(lifecycle: Lifecycle, run_id: str) -> TaskRun:
    return next(task for task in lifecycle.api.task_states("promote_model", run_id) if task.task_id == "canary")


def log(lifecycle: Lifecycle, run_id: str) -> str:
    return "\n".join(lifecycle.api.log("promote_model", run_id, canary_task(lifecycle, run_id)))


def of_model(lifecycle: Lifecycle) -> Any:
    with RegistryClient(lifecycle.settings.mlflow) as client:
        return client.model(MODEL)


def test_a_version_that_fails_goes_back_and_the_run_says_why(lifecycle: Lifecycle, two_versions: tuple[str, str]) -> None:
    first, second = two_versions
    run_id = started(lifecycle, second)
    assert of_model(lifecycle).aliases == {"champion": first, "challenger": second}
    requests(lifecycle.settings, first, "bad", 10)
    requests(lifecycle.settings, second, "bad", 0, failed=10)
    with pytest.raises(DagRunFailedError, match="10 of 10 failed"):
        lifecycle.api.wait("promote_model", run_id, timeout_s=120)
    found = of_model(lifecycle)
    assert found.aliases == {"champion": first} and CANARY_SHARE not in found.tags


def test_a_killed_canary_goes_on_since_its_beginning_and_a_good_version_is_promoted(
    lifecycle: Lifecycle, two_versions: tuple[str, str]
) -> None:
    first, second = two_versions
    run_id = started(lifecycle, second)
    requests(lifecycle.settings, first, "good", 10)
    requests(lifecycle.settings, second, "good", 3)
    wait_for(lambda: "3 completed" in log(lifecycle, run_id), 60, "the first requests to be counted", interval=1.0)
    os.kill(int(canary_task(lifecycle, run_id).pid or 0), signal.SIGKILL)
    requests(lifecycle.settings, second, "later", 2)
    lifecycle.api.wait("promote_model", run_id, timeout_s=120)
    assert canary_task(lifecycle, run_id).try_number == 2
    assert f"version {second}: 5 completed, 0 failed" in log(lifecycle, run_id)
    assert get_alias(MODEL, "champion", uri=lifecycle.settings.mlflow) == second
    assert of_model(lifecycle).aliases == {"champion": second}
    assert lifecycle.api.xcom("promote_model", run_id, "promote")["previous"] == first


def test_what_a_run_that_was_ended_by_hand_leaves_over_is_in_the_status(lifecycle: Lifecycle, two_versions: tuple[str, str]) -> None:
    first, second = two_versions
    set_alias(MODEL, "champion", first, uri=lifecycle.settings.mlflow)
    run_id = started(lifecycle, second)
    assert leftover_notes(lifecycle.settings) == []
    lifecycle.api.cancel("promote_model", run_id)
    (note,) = leftover_notes(lifecycle.settings)
    # "failed", unless Airflow's scheduler looked at the run in the same moment: it then takes the tasks that were skipped for a success.
    assert f"version {second} of {MODEL} gets 50% of its requests, and nobody judges it: its run {run_id} ended, " in note
    canary_run.end_canary(lifecycle.settings, MODEL, by="test", why="over")
