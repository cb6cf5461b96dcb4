"""A canary that nobody judges is told of, with what to do; MLflow is real, and how a run of Airflow stands is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from include.config import Settings
from include.lifecycle import canary_run
from include.lifecycle.airflow_api import AirflowUnreachableError, RunState, RunUnknownError
from include.lifecycle.canary import CanaryPolicy
from include.lifecycle.leftover_canaries import leftover_canaries
from include.registry.aliases import set_alias
from include.registry.client import RegistryClient
from include.registry.tags import CANARY_SHARE, CANARY_UNTIL
from tests.integration.registry.conftest import write_model
from tests.support.registry import register

POLICY = CanaryPolicy(canary_share=0.25)


@pytest.fixture
def begun(mlflow_server: str, tmp_path: Path, name: str) -> Settings:
    """Of a model whose canary the run ``run-1`` began."""
    settings = Settings(_env_file=None, home=tmp_path, mlflow_uri=mlflow_server, model_name=name)
    one, two = (register(write_model(tmp_path / version, version), name, mlflow_server) for version in ("one", "two"))
    set_alias(name, "champion", one.version, uri=mlflow_server)
    canary_run.begin_canary(settings, name, two.version, POLICY, run="run-1", by="ann", why="")
    return settings


def where_run_1_is(state: RunState) -> Callable[[str], RunState]:
    """Other tests' models on the same server have runs of their own."""
    return lambda run: state if run == "run-1" else RunState.RUNNING


def told(settings: Settings, state_of: Callable[[str], RunState]) -> list[str]:
    """What is told of this test's model."""
    with RegistryClient(settings.mlflow) as registry:
        return [note for note in leftover_canaries(registry, state_of) if f" of {settings.model_name} " in note]


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.SUCCESS])
def test_one_whose_run_is_over_is_told_with_what_to_do(begun: Settings, state: RunState) -> None:
    (note,) = told(begun, where_run_1_is(state))
    assert note.startswith(f"version 2 of {begun.model_name} gets 25% of its requests, and nobody judges it: its run run-1 ended, {state}.")
    assert "It ends by itself at 20" in note
    assert f"delete the tag {CANARY_SHARE} at {begun.mlflow}/#/models/{begun.model_name}" in note
    assert "start promote_model with version 2" in note
    with RegistryClient(begun.mlflow) as client:
        client.delete_model_tag(begun.model_name, CANARY_SHARE)  # what the note says
    assert told(begun, where_run_1_is(state)) == []


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_one_whose_run_goes_on_is_nobodys_business(begun: Settings, state: RunState) -> None:
    assert told(begun, where_run_1_is(state)) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RunUnknownError("404"), "its run run-1 is not there any more"),
        (AirflowUnreachableError("no answer"), "of its run run-1 nothing can be known: no answer"),
    ],
)
def test_a_run_that_can_not_be_seen_is_told_as_such(begun: Settings, error: Exception, why: str) -> None:
    def state_of(run: str) -> RunState:
        raise error

    (note,) = told(begun, state_of)
    assert why in note


def test_one_that_was_set_by_hand_has_no_run(begun: Settings) -> None:
    with RegistryClient(begun.mlflow) as client:
        client.set_alias(begun.model_name, "challenger", "1")
    (note,) = told(begun, lambda run: RunState.RUNNING)
    assert "version 1" in note and "no run of promote_model began it" in note


@pytest.mark.parametrize("tags", [{CANARY_UNTIL: f"{time.time() - 1:.0f}"}, {CANARY_SHARE: "most"}])
def test_one_that_gets_no_requests_is_not_told(begun: Settings, tags: dict[str, str]) -> None:
    with RegistryClient(begun.mlflow) as client:
        for name, value in tags.items():
            client.set_model_tag(begun.model_name, name, value)
    assert told(begun, where_run_1_is(RunState.FAILED)) == []
