"""A canary between a real MLflow, a real broker and the watcher: aliases and tags make it, events and credit judge it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.config import Settings
from include.contracts import topics as names
from include.contracts.control import ModelRoute
from include.contracts.events import State
from include.contracts.feedback import Rating
from include.contracts.workers import Credit
from include.lifecycle import canary_run, promotion, steps
from include.lifecycle.canary import CanaryPolicy, Decision
from include.lifecycle.canary_run import CanaryPlan
from include.registry.aliases import get_alias, set_alias
from include.registry.client import RegistryClient
from include.registry.ledger import AliasLedger
from include.registry.tags import CANARY_SHARE, CANARY_UNTIL
from tests.integration.registry.conftest import write_model
from tests.integration.registry.test_watcher import Control, watcher
from tests.support.kafka_client import send
from tests.support.registry import register
from tests.support.waiting import wait_for
from tests.unit.include.lifecycle.test_canary_figures import ended

POLICY = CanaryPolicy(canary_share=0.25, canary_min_requests=5, canary_minutes=1)


@dataclass(frozen=True)
class Stage:
    settings: Settings
    control: Control
    model: str
    first: str
    second: str

    def begin(self, policy: CanaryPolicy = POLICY, run: str = "run-1") -> CanaryPlan | str:
        return canary_run.begin_canary(self.settings, self.model, self.second, policy, run=run, by="ann", why="better hats")

    def route(self, share: float | None) -> ModelRoute:
        """Once it has a canary of that share, or none."""

        def found() -> ModelRoute | None:
            routes = self.control.routes(self.model)
            now = routes[-1].canary.share if routes and routes[-1].canary else None
            return routes[-1] if routes and now == share else None

        return wait_for(found, 20, f"a canary of {share}", interval=0)

    def finish(self, version: str, completed: int, failed: int = 0) -> None:
        for state, count in ((State.COMPLETED, completed), (State.FAILED, failed)):
            events = [ended(f"{version}-{state}-{number}", version, state, model=self.model) for number in range(count)]
            send(self.settings, names.EVENTS, *(event.to_json() for event in events))

    def tags(self) -> dict[str, str]:
        with RegistryClient(self.settings.mlflow) as client:
            return client.model(self.model).tags

    def moves(self, alias: str) -> list[tuple[Any, ...]]:
        found = AliasLedger(self.settings.home / "ledger" / "aliases.jsonl").moves()
        return [(move.from_version, move.to_version, move.by) for move in found if (move.model, move.alias) == (self.model, alias)]


@pytest.fixture
def stage(topics: Settings, mlflow_server: str, tmp_path: Path, name: str) -> Iterator[Stage]:
    settings = topics.model_copy(update={"home": tmp_path, "mlflow_uri": mlflow_server, "model_name": name})
    one, two = (register(write_model(tmp_path / version, version), name, mlflow_server) for version in ("one", "two"))
    set_alias(name, "champion", one.version, by="ann", why="the first", uri=mlflow_server)
    control = Control(settings)
    with watcher(settings):
        control.wait_champion(name, one.version)
        yield Stage(settings, control, name, one.version, two.version)
    control.reader.close()


def test_a_good_version_gets_its_share_then_everything(stage: Stage) -> None:
    plan = stage.begin()
    assert isinstance(plan, CanaryPlan)
    route = stage.route(0.25)
    assert route.canary is not None and route.canary.challenger.version == stage.second
    assert route.champion is not None and route.champion.version == stage.first
    assert stage.begin() == plan  # whoever is killed goes on with the same canary, since the same moment

    stage.finish(stage.first, 20)
    stage.finish(stage.second, 6)
    send(stage.settings, names.RATINGS, Rating(request_id=f"{stage.second}-Completed-0", tenant="t", rating=5, at=1.0).to_json())
    said: list[str] = []
    verdict = canary_run.follow_canary(stage.settings, plan, POLICY, said.append)
    assert verdict.decision is Decision.PROMOTE
    assert f"version {stage.second}: 6 completed, 0 failed" in said[-1]

    promotion.promote(stage.settings, stage.model, stage.second, by="ann", why="better hats")
    stage.control.wait_champion(stage.model, stage.second)
    assert stage.route(None).previous == route.champion
    assert get_alias(stage.model, "challenger", uri=stage.settings.mlflow) is None
    assert not {CANARY_SHARE, CANARY_UNTIL} & stage.tags().keys()
    wait_for(lambda: len(stage.moves("challenger")) == 2, 20, "the ledger")
    assert stage.moves("challenger") == [(None, stage.second, "ann"), (stage.second, None, "ann")]
    assert stage.moves("champion") == [(None, stage.first, "ann"), (stage.first, stage.second, "ann")]


def test_a_bad_version_goes_back_by_itself(stage: Stage) -> None:
    plan = stage.begin()
    assert isinstance(plan, CanaryPlan)
    stage.route(0.25)
    stage.finish(stage.first, 20)
    stage.finish(stage.second, 1, failed=12)
    params = {**POLICY.model_dump(), "why": ""}
    with pytest.raises(steps.CanaryFailedError, match=r"goes back, 1 stays champion: 12 of 13 failed"):
        steps.try_out(stage.settings, plan.model_dump(), params)
    stage.route(None)
    stage.control.wait_champion(stage.model, stage.first)
    with RegistryClient(stage.settings.mlflow) as client:
        tags = client.version(stage.model, stage.second).tags
    assert tags["atelier.canary.verdict"] == "back" and "12 of 13 failed" in tags["atelier.canary.reasons"]


def test_a_worker_that_refuses_it_ends_it(stage: Stage) -> None:
    plan = stage.begin()
    assert isinstance(plan, CanaryPlan)
    refused = (f"{stage.model}/{stage.second}",)
    credit = Credit(worker_id="w-7", incarnation="i", cell="cell-0", pool="standard", at=time.time(), refused_models=refused)
    send(stage.settings, names.WORKERS, credit.to_json())
    verdict = canary_run.follow_canary(stage.settings, plan, POLICY)
    assert (verdict.decision, verdict.reasons) == (Decision.BACK, ("worker w-7 won't serve it",))


def test_who_moves_the_champion_meanwhile_ends_it(stage: Stage) -> None:
    plan = stage.begin()
    assert isinstance(plan, CanaryPlan)
    set_alias(stage.model, "champion", stage.second, by="bob", uri=stage.settings.mlflow)
    verdict = canary_run.follow_canary(stage.settings, plan, POLICY)
    assert verdict.decision is Decision.BACK and "moved from version 1 to 2 meanwhile" in verdict.reasons[0]


def test_what_a_killed_run_left_over_is_taken_back_by_the_next(stage: Stage) -> None:
    left = stage.begin()
    stage.route(0.25)
    assert stage.begin(POLICY.model_copy(update={"canary_share": 0.0}), "run-2") == "canary_share is 0"
    stage.route(None)
    assert stage.begin(run="run-3") != left
    stage.route(0.25)


def test_a_canary_whose_time_is_long_over_ends_by_itself(stage: Stage) -> None:
    stage.begin()
    stage.route(0.25)
    with RegistryClient(stage.settings.mlflow) as client:
        client.set_model_tag(stage.model, CANARY_UNTIL, f"{time.time() - 1:.0f}")
    stage.route(None)


@pytest.mark.parametrize("share", ["1.5", "most"])
def test_a_share_that_is_none_leaves_the_champion_alone(stage: Stage, share: str, tmp_path: Path) -> None:
    stage.begin()
    stage.route(0.25)
    with RegistryClient(stage.settings.mlflow) as client:  # as somebody may in the MLflow UI
        client.set_model_tag(stage.model, CANARY_SHARE, share)
    stage.route(None)
    assert "gets no requests" in (tmp_path / "watcher.log").read_text()
