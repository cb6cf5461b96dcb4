"""The watcher as a process between a real MLflow server and a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.config import PROJECT_ROOT, Settings
from include.contracts.control import AnyControlMessage, ModelRoute, Policy, Scenario, control_messages
from include.contracts.topics import CONTROL
from include.platform.environment import shared_environment
from include.platform.mlflow import mlflow_service
from include.registry.aliases import set_alias
from include.registry.client import RegistryClient
from include.registry.errors import UnknownModelError
from include.registry.ledger import AliasLedger
from include.registry.recorder import KEPT
from include.registry.signatures import SIGNED
from include.registry.tags import ADAPTER_OF
from tests.integration.registry.conftest import write_model
from tests.support.kafka_client import TopicReader
from tests.support.registry import register
from tests.support.services import free_settings, running
from tests.support.waiting import wait_for


class Control:
    """What is on the control topic."""

    def __init__(self, settings: Settings) -> None:
        self.reader = TopicReader(settings, CONTROL)

    def messages(self) -> list[AnyControlMessage]:
        return [control_messages.validate_json(value) for value in self.reader.poll() if value]

    def routes(self, name: str) -> list[ModelRoute]:
        return [message for message in self.messages() if isinstance(message, ModelRoute) and message.name == name]

    def wait_champion(self, name: str, version: str | None, timeout: float = 20) -> ModelRoute:
        def serves() -> ModelRoute | None:
            routes = self.routes(name)
            return routes[-1] if routes and (routes[-1].champion.version if routes[-1].champion else None) == version else None

        return wait_for(serves, timeout, f"{name} served by version {version}", interval=0)


@contextmanager
def watcher(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**shared_environment(settings, "registry-watcher"), "ATELIER_TOPIC_PREFIX": settings.topic_prefix}
    log = settings.home / "watcher.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "include.registry.watcher"], cwd=PROJECT_ROOT, env={**os.environ, **environment}, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:  # else the test killed it
            process.terminate()
            assert process.wait(20) == 0, log.read_text()


@pytest.fixture
def installed(topics: Settings, mlflow_server: str, tmp_path: Path, name: str) -> Settings:
    return topics.model_copy(update={"home": tmp_path, "mlflow_uri": mlflow_server, "model_name": name})


@pytest.fixture
def control(installed: Settings) -> Iterator[Control]:
    found = Control(installed)
    yield found
    found.reader.close()


def move(settings: Settings, name: str, version: str) -> float:
    """As the MLflow UI does; returns when."""
    with RegistryClient(settings.mlflow) as client:
        client.set_alias(name, "champion", version)
    return time.monotonic()


def test_routes_follow_the_alias_and_the_ledger_has_every_move(installed: Settings, control: Control, name: str, tmp_path: Path) -> None:
    one, two = (register(write_model(tmp_path / version, version), name, installed.mlflow) for version in ("one", "two"))
    ledger = AliasLedger(tmp_path / "ledger" / "aliases.jsonl")
    with watcher(installed):
        wait_for(lambda: any(isinstance(message, Policy) for message in control.messages()), 20, "a policy", interval=0)
        assert any(isinstance(message, Scenario) and message.name == "sticker" for message in control.messages())
        assert control.routes(name) == []  # no champion yet
        move(installed, name, one.version)
        route = control.wait_champion(name, one.version)
        assert route.champion == one and route.is_default
        moved_at = move(installed, name, two.version)
        control.wait_champion(name, two.version)
        assert time.monotonic() - moved_at < 2.5  # a poll of one second, and a machine that is busy
    published = len(control.routes(name))
    with watcher(installed):
        wait_for(lambda: len(control.routes(name)) > published, 20, "the route published at every start", interval=0)
    move(installed, name, one.version)
    with watcher(installed):  # a move while it was down is seen when it is back
        control.wait_champion(name, one.version)
        with RegistryClient(installed.mlflow) as client:
            client.delete_alias(name, "champion")
        assert control.wait_champion(name, None).defaults == route.defaults
    moves = [(found.from_version, found.to_version) for found in ledger.moves() if found.model == name]
    assert moves == [(None, "1"), ("1", "2"), ("2", "1"), ("1", None)]
    assert {found.by for found in ledger.moves() if found.model == name} == {"unknown"}
    assert sum(isinstance(message, Policy) for message in control.messages()) == 1


def test_an_adapter_is_published_with_its_model(installed: Settings, control: Control, name: str, tmp_path: Path) -> None:
    one, wrong = (
        register(write_model(tmp_path / version, version), name, installed.mlflow, {ADAPTER_OF: "emoji"}) for version in ("one", "two")
    )
    with RegistryClient(installed.mlflow) as client:  # as somebody may in the MLflow UI
        client.set_version_tag(name, wrong.version, ADAPTER_OF, "no model's name")
    with watcher(installed):
        move(installed, name, one.version)
        assert control.wait_champion(name, one.version).adapter_of == "emoji"
        move(installed, name, wrong.version)
        log = tmp_path / "watcher.log"
        wait_for(lambda: "atelier.adapter_of must be the name of a model" in log.read_text(), 20, "the refusal in the log")
    assert {route.champion.version for route in control.routes(name) if route.champion} == {one.version}


def test_a_champion_without_digest_leaves_the_old_one_serving(installed: Settings, control: Control, name: str, tmp_path: Path) -> None:
    one = register(write_model(tmp_path / "one"), name, installed.mlflow)
    with RegistryClient(installed.mlflow) as client:
        client.call("POST", "model-versions/create", json={"name": name, "source": "s3://somewhere/else"})
    move(installed, name, one.version)
    with watcher(installed):
        control.wait_champion(name, one.version)
        move(installed, name, "2")
        log = tmp_path / "watcher.log"
        wait_for(lambda: "has no tag atelier.digest" in log.read_text(), 20, "the refusal in the log")
        move(installed, name, one.version)
        wait_for(lambda: len(list(AliasLedger(tmp_path / "ledger" / "aliases.jsonl").moves())) >= 3, 20, "the move back in the ledger")
    assert {route.champion.version for route in control.routes(name) if route.champion} == {one.version}


def test_it_waits_for_mlflow_and_goes_on_when_it_returns(topics: Settings, tmp_path: Path, name: str) -> None:
    own = free_settings(tmp_path).model_copy(
        update={"kafka_bootstrap": topics.bootstrap, "topic_prefix": topics.topic_prefix, "model_name": name}
    )
    control = Control(own)
    with watcher(own), running(own, mlflow_service(own)) as (mlflow,):
        version = register(write_model(tmp_path / "one"), name, own.mlflow).version
        move(own, name, version)
        control.wait_champion(name, version)
        mlflow.kill()
        wait_for(lambda: "no answer from MLflow" in (tmp_path / "watcher.log").read_text(), 30, "the outage in the log")
        mlflow.restart()
        second = register(write_model(tmp_path / "two", "two"), name, own.mlflow).version
        move(own, name, second)
        control.wait_champion(name, second, timeout=40)
    control.reader.close()


def test_every_signed_move_made_while_it_was_dead_is_in_the_ledger(
    installed: Settings, control: Control, name: str, tmp_path: Path
) -> None:
    one, two = (register(write_model(tmp_path / version, version), name, installed.mlflow).version for version in ("one", "two"))
    ledger = AliasLedger(tmp_path / "ledger" / "aliases.jsonl")
    with watcher(installed) as process:
        set_alias(name, "champion", one, by="ann", uri=installed.mlflow)
        control.wait_champion(name, one)
        process.kill()
        process.wait()
    for number, version in enumerate([two, one, two]):
        set_alias(name, "champion", version, by=f"bob-{number}", why="back and forth", uri=installed.mlflow)
    move(installed, name, one)
    with pytest.raises(UnknownModelError):  # it moves nothing, and leaves no signature behind
        set_alias(name, "champion", "99", by="eve", uri=installed.mlflow)
    with watcher(installed):
        wait_for(lambda: sum(found.model == name for found in ledger.moves()) >= 5, 20, "the ledger")
    with watcher(installed):  # which repeats nothing
        wait_for(lambda: len(control.routes(name)) >= 3, 20, "the route published at every start", interval=0)
    found = [move for move in ledger.moves() if move.model == name]
    moves = [(each.from_version, each.to_version, each.by) for each in found]
    assert moves == [(None, one, "ann"), (one, two, "bob-0"), (two, one, "bob-1"), (one, two, "bob-2"), (two, one, "unknown")]
    signed, unsigned = found[-2:]
    assert signed.moved_at is not None and signed.why == "back and forth"
    assert unsigned.not_before == signed.moved_at and unsigned.not_after is None


def test_signatures_that_are_recorded_do_not_pile_up(installed: Settings, name: str, tmp_path: Path) -> None:
    versions = [register(write_model(tmp_path / version, version), name, installed.mlflow).version for version in ("one", "two")]
    for number in range(KEPT + 6):
        set_alias(name, "champion", versions[number % 2], by="ann", uri=installed.mlflow)

    def signatures() -> int:
        with RegistryClient(installed.mlflow) as client:
            return sum(key.startswith(SIGNED) for key in client.model(name).tags)

    assert signatures() == KEPT + 6
    with watcher(installed):
        wait_for(lambda: signatures() == KEPT, 20, "the oldest to be forgotten")
    assert sum(found.model == name for found in AliasLedger(tmp_path / "ledger" / "aliases.jsonl").moves()) == KEPT + 6


def test_mlflow_tells_of_a_move_before_the_next_look(topics: Settings, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_REGISTRY_POLL_S", "60")
    own = free_settings(tmp_path).model_copy(
        update={"kafka_bootstrap": topics.bootstrap, "topic_prefix": topics.topic_prefix, "model_name": name}
    )
    control, log = Control(own), tmp_path / "watcher.log"
    with running(own, mlflow_service(own)):
        one, two = (register(write_model(tmp_path / version, version), name, own.mlflow).version for version in ("one", "two"))
        move(own, name, one)
        for version in (two, one):  # the second time with the receiver of the first start gone
            with watcher(own):
                wait_for(lambda: "is served by" in log.read_text(), 30, "the first look")
                move(own, name, version)
                control.wait_champion(name, version, timeout=20)
            log.unlink()
    control.reader.close()
