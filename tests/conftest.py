"""Fixtures for the real services. Each is started at most once a session, when the first test asks for it, and ended with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from include.config import Settings
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, delete_topics, kafka_service
from include.platform.mlflow import mlflow_service
from tests.support.distribution import ByService, in_order_of_weight
from tests.support.flink_cluster import FlinkCluster
from tests.support.s3 import S3Server, s3_server_at
from tests.support.services import free_settings, running


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByService:
    """Of a run on several processes, such as that of ``make test``."""
    return ByService(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        in_order_of_weight(items)


@pytest.fixture(scope="session")
def service_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of this session's services: its own home, its own ports."""
    return free_settings(tmp_path_factory.mktemp("services"))


@pytest.fixture(scope="session")
def kafka(service_settings: Settings) -> Iterator[str]:
    """``host:port`` of a real broker."""
    with running(service_settings, kafka_service(service_settings)):
        yield service_settings.bootstrap


@pytest.fixture
def topics(kafka: str, service_settings: Settings) -> Iterator[Settings]:
    """Settings with a topic prefix of the test's own, whose topics all exist; they are deleted after the test."""
    settings = service_settings.model_copy(update={"topic_prefix": f"test-{uuid.uuid4().hex[:8]}.", "kafka_bootstrap": kafka})
    create_topics(settings)
    yield settings
    delete_topics(settings)


@pytest.fixture(scope="session")
def flink_session(service_settings: Settings) -> Iterator[FlinkCluster]:
    """The session's cluster; tests take :func:`flink_cluster`."""
    with running(service_settings, jobmanager_service(service_settings), taskmanager_service(service_settings)) as (manager, worker):
        yield FlinkCluster(service_settings, manager, worker)


@pytest.fixture
def flink_cluster(flink_session: FlinkCluster) -> Iterator[FlinkCluster]:
    """A real session cluster without a job at the test's start and end."""
    yield flink_session
    if flink_session.taskmanager.process is None or flink_session.taskmanager.process.poll() is not None:
        flink_session.taskmanager.restart()
    flink_session.cancel_all()


@pytest.fixture(scope="session")
def mlflow_server(service_settings: Settings) -> Iterator[str]:
    """The address of a real MLflow server."""
    with running(service_settings, mlflow_service(service_settings)):
        yield service_settings.mlflow


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server over a directory."""
    with s3_server_at(tmp_path_factory.mktemp("s3")) as server:
        yield server
