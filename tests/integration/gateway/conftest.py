from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from include.client.producer import TopicProducer
from include.config import PROJECT_ROOT, Settings
from include.gateway.keys import demo_keys
from include.platform.kafka import create_topics, delete_topics
from include.platform.ports import free_ports
from tests.support.waiting import wait_for


def _environment(settings: Settings) -> dict[str, str]:
    names = ("home", "host", "gateway_port", "kafka_bootstrap", "mlflow_uri", "topic_prefix")
    return {**os.environ, **{f"ATELIER_{name.upper()}": str(getattr(settings, name)) for name in names}}


class GatewayProcess:
    """A real gateway: ``python -m include.gateway``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = settings.home / "gateway.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "include.gateway"], cwd=PROJECT_ROOT, env=_environment(self.settings), stdout=log, stderr=log
            )
        wait_for(self._answers, 90, "the gateway answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.settings.gateway}/healthz").is_success
        except httpx.HTTPError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)

    def client(self, tenant: str = "acme") -> httpx.Client:
        key = demo_keys(self.settings.home)[tenant]
        return httpx.Client(base_url=self.settings.gateway, headers={"Authorization": f"Bearer {key}"}, timeout=20)


@pytest.fixture(scope="module")
def gateway_settings(kafka: str, service_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    changes = {
        "topic_prefix": f"gateway-{uuid.uuid4().hex[:8]}.",
        "kafka_bootstrap": kafka,
        "home": tmp_path_factory.mktemp("gateway"),
        "gateway_port": free_ports(1)[0],
    }
    settings = service_settings.model_copy(update=changes)
    create_topics(settings)
    yield settings
    delete_topics(settings)


@contextmanager
def running_gateway(settings: Settings) -> Iterator[GatewayProcess]:
    process = GatewayProcess(settings)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def gateway(gateway_settings: Settings) -> Iterator[GatewayProcess]:
    with running_gateway(gateway_settings) as process:
        yield process


@pytest.fixture
def start_gateway(service_settings: Settings, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts a gateway of the test's own."""
    started: list[GatewayProcess] = []

    def start(base: Settings = service_settings, **changes: object) -> GatewayProcess:
        own = {"home": tmp_path, "gateway_port": free_ports(1)[0]}
        started.append(GatewayProcess(base.model_copy(update={**own, **changes})))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def producer(gateway_settings: Settings) -> Iterator[TopicProducer]:
    with TopicProducer(gateway_settings) as made:
        yield made


@pytest.fixture(scope="module")
def acme(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client("acme") as client:
        yield client


@pytest.fixture(scope="module")
def globex(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client("globex") as client:
        yield client


def sse_events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """(id, data) of each server-sent event."""
    identifier = 0
    for line in lines:
        if line.startswith("id: "):
            identifier = int(line[4:])
        elif line.startswith("data: "):
            yield identifier, json.loads(line[6:])
