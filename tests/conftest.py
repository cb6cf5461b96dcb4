"""Fixtures for the real services. Each is started at most once a session, when the first test asks for it, and ended with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from include.config import Settings
from include.platform.airflow import airflow_services, prepare_airflow
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, delete_topics, kafka_service
from include.platform.mlflow import mlflow_service
from tests.support.airflow import AirflowEnvironment, AirflowServer
from tests.support.flink_cluster import FlinkCluster
from tests.support.services import free_settings, running


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
def airflow_env(service_settings: Settings) -> AirflowEnvironment:
    """A migrated Airflow home over this repository's dags/ and plugins/, without running processes."""
    prepare_airflow(service_settings)
    return AirflowEnvironment(service_settings)


@pytest.fixture(scope="session")
def airflow_server(airflow_env: AirflowEnvironment) -> Iterator[AirflowServer]:
    """All four processes of Airflow; DAG runs are started through its REST API."""
    with running(airflow_env.settings, *airflow_services(airflow_env.settings)):
        yield AirflowServer(airflow_env.settings)
