"""The dataset's run is begun while services still start, and not at all where those that it needs don't come up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from include.config import Settings
from include.demo import acts
from include.demo.airflow_runs import BegunRun
from include.demo.options import DemoOptions
from include.demo.outcome import Outcome
from include.demo.steps import StepFailedError, Steps
from include.platform.service import Service, nothing
from include.platform.startup import Startup, StartupError

BEGUN = BegunRun(dag_id="prepare_dataset", run_id="demo", result_of="publish")


class Lifecycle:
    """Stands in for Airflow, which is another process."""

    begun = threading.Event()

    def __init__(self, *_: object) -> None: ...

    def wait_ready(self) -> None: ...

    def begin_dataset(self) -> BegunRun:
        self.begun.set()
        return BEGUN


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO())


@pytest.fixture
def outcome(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    Lifecycle.begun.clear()
    monkeypatch.setattr(acts, "Lifecycle", Lifecycle)
    monkeypatch.setattr("include.platform.preflight.main", lambda _: 0)
    return Outcome(settings=Settings(_env_file=None, home=tmp_path), options=DemoOptions(out=tmp_path), steps=Steps(console))


def start_with(outcome: Outcome, monkeypatch: pytest.MonkeyPatch, go: Callable[[Startup], int]) -> None:
    services = [Service(name=name, check=nothing) for name in (*acts.PREPARATION_NEEDS, "router")]
    startup = Startup(outcome.settings, services)

    def bring_up(beside: Callable[[Startup], object]) -> int:
        beside(startup)
        return go(startup)

    monkeypatch.setattr("include.platform.bring_up.bring_up", bring_up)


def test_the_dataset_begins_before_the_router_is_up(outcome: Outcome, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(startup: Startup) -> int:
        assert not Lifecycle.begun.wait(0.1), "nobody is up yet"
        for name in acts.PREPARATION_NEEDS:
            startup.progress[name].end("healthy")
        assert Lifecycle.begun.wait(10) and startup.progress["router"].phase == "waiting"
        return 0

    start_with(outcome, monkeypatch, go)
    assert acts._bring_up(outcome, console).result(timeout=10) is BEGUN


def test_without_airflow_nothing_is_begun_and_the_step_fails(outcome: Outcome, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(startup: Startup) -> int:
        startup.progress["mlflow"].end("failed", "no port")
        return 1

    start_with(outcome, monkeypatch, go)
    with pytest.raises(StepFailedError, match="not every service is healthy"):
        acts._bring_up(outcome, console)
    assert not Lifecycle.begun.is_set()


def test_a_dataset_that_can_not_begin_is_told_where_it_is_waited_for(
    outcome: Outcome, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(startup: Startup) -> int:
        startup.progress["mlflow"].end("failed", "no port")
        return 0

    start_with(outcome, monkeypatch, go)
    begun = acts._bring_up(outcome, console)
    with pytest.raises(StartupError, match="needs mlflow"):
        begun.result(timeout=10)
