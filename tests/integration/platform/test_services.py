"""Kafka and MLflow of the local profile start and pass their own health checks; Airflow is in ``tests/integration/airflow``."""

from __future__ import annotations

import urllib.request

import pytest

from include.config import Settings
from include.contracts import topics as names
from include.contracts.topics import topics_for
from include.platform.kafka import existing_topics
from include.platform.mlflow import check_mlflow
from include.platform.service import Unhealthy
from tests.support.kafka_client import TopicReader, send
from tests.support.services import free_settings


def test_topics_exist_and_carry_values(topics: Settings) -> None:
    assert {topics.topic_prefix + topic.name for topic in topics_for(("standard",))} <= existing_topics(topics)
    send(topics, names.DEAD_LETTERS, b"\xff\x00", None)
    reader = TopicReader(topics, names.DEAD_LETTERS)
    assert reader.wait_count(2) == [b"\xff\x00", None]
    reader.close()


def test_a_message_of_two_megabytes_gets_through(topics: Settings) -> None:
    send(topics, names.REALTIME, b"x" * 2_000_000)
    reader = TopicReader(topics, names.REALTIME)
    assert [len(value) for value in reader.wait_count(1) if value] == [2_000_000]
    reader.close()


def test_mlflow_serves_artifacts(mlflow_server: str, service_settings: Settings) -> None:
    check_mlflow(service_settings)
    put = urllib.request.Request(f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/a.txt", b"picture", method="PUT")
    urllib.request.urlopen(put).close()
    assert (service_settings.home / "mlflow" / "artifacts" / "a.txt").read_bytes() == b"picture"


def test_checks_name_what_does_not_answer(tmp_path) -> None:
    away = free_settings(tmp_path)
    with pytest.raises(Unhealthy, match=f"no answer from 127.0.0.1:{away.kafka_port}"):
        existing_topics(away, timeout_s=1)
    with pytest.raises(Unhealthy, match=f"no answer at http://127.0.0.1:{away.mlflow_port}"):
        check_mlflow(away)
