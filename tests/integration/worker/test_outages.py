"""The store or the broker goes away for a while; nothing is lost, and the worker does not end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from include.config import Settings
from include.contracts.dispatch import ModelRef
from include.contracts.topics import WORKERS
from include.contracts.workers import Completed, Credit, RenderProgress
from include.platform.kafka import create_topics, kafka_service
from include.storage import open_store
from tests.integration.worker.conftest import Router, Workers
from tests.support.kafka_client import TopicReader
from tests.support.leases import render_task
from tests.support.s3 import S3Server, s3_server_at
from tests.support.services import Running, free_settings, running
from tests.support.waiting import wait_for


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server_at(tmp_path / "s3") as server:
        yield server


def test_a_store_that_is_away_delays_the_result_and_the_lease_lives_on(
    workers: Workers, router: Router, model: ModelRef, s3: S3Server
) -> None:
    workers.settings = s3.settings(workers.settings, prefix="prod")
    workers.start()
    hello = router.hello()
    router.outcomes(router.lease(hello, render_task(), model=model))
    s3.stop()
    lease = router.lease(hello, render_task(), model=model, lease_s=4.0)
    # Renewed by progress past the end that the router gave it.
    router.wait(RenderProgress, 4, lease_id=lease.lease_id)
    s3.start()
    (outcome,) = router.outcomes(lease, timeout=90)
    assert isinstance(outcome, Completed)
    assert open_store(workers.settings).head(outcome.images[0].key) is not None


@pytest.fixture
def own_kafka(tmp_path: Path, mlflow_server: str) -> Iterator[tuple[Settings, Running]]:
    """A broker that a test may kill."""
    settings = free_settings(tmp_path).model_copy(update={"mlflow_uri": mlflow_server})
    with running(settings, kafka_service(settings)) as (kafka,):
        create_topics(settings)
        yield settings, kafka


def test_results_made_while_the_broker_is_away_arrive_when_it_is_back(own_kafka: tuple[Settings, Running], model: ModelRef) -> None:
    settings, kafka = own_kafka
    with ExitStack() as stack:
        worker = Workers(settings, stack).start()
        router = Router(settings)
        lease = router.lease(router.hello(), render_task(steps=200, images=16, width=32, height=32), model=model)
        router.wait(RenderProgress, lease_id=lease.lease_id)
        router.reader.close()
        kafka.kill()
        wait_for(lambda: worker.worker.loop.completed == 1, 60, "the render done without a broker")
        kafka.restart()
        again = Router(settings)
        (outcome,) = again.outcomes(lease)
        assert isinstance(outcome, Completed)
        before = len(again.messages(Credit))
        again.wait(Credit, before + 2)
        assert worker.thread.is_alive()
        second = again.lease(again.hello(), render_task(), model=model)
        assert isinstance(again.outcomes(second)[0], Completed)
        again.reader.close()


def test_a_worker_that_starts_before_its_broker_waits_for_it(tmp_path: Path, mlflow_server: str) -> None:
    settings = free_settings(tmp_path).model_copy(update={"mlflow_uri": mlflow_server})
    with ExitStack() as stack:
        worker = Workers(settings, stack).start()
        health = worker.worker.health.path
        wait_for(lambda: "waiting for Kafka" in health.read_text(), 20, "the state in the health file")
        with running(settings, kafka_service(settings)):
            create_topics(settings)
            reader = TopicReader(settings, WORKERS)
            reader.wait_count(2)
            reader.close()
            worker.end()
