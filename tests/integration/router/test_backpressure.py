"""Batch requests over their lane's bound stay in Kafka, held there by Flink's own flow control, and realtime ones pass beside them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from flink_jobs.gate import WINDOW
from include.config import Settings
from include.contracts import topics as names
from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.platform.http import request_json
from tests.integration.router.conftest import TERMINAL, RouterJob, request, routing
from tests.integration.router.stub_worker import StubWorker, complete_all, hold
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import send
from tests.support.waiting import wait_for

#: Device seconds of one request by the route's prior: 4 guided steps of 0.01 s; and of all that the low lane may hold.
COST_S, BOUND_S = 0.08, 16.0
#: More than all buffers between Kafka and the scheduler hold.
BACKLOG = 4000
RENDER_S = 0.3


def policy() -> Policy:
    bounds = {Lane.HIGH: 1000.0, Lane.NORMAL: 1000.0, Lane.LOW: BOUND_S}
    return default_policy(lease_s=8.0).model_copy(update={"at": time.time(), "by": "test", "lane_bound_s": bounds})


class Ledger:
    """What the router said of each request, read on as it comes, without repeats."""

    def __init__(self, router: RouterJob) -> None:
        self.router = router
        self.read = 0
        self.events: dict[str, dict[str, dict[str, Any]]] = {}

    def poll(self) -> Ledger:
        values = self.router.events.poll()
        for value in values[self.read :]:
            event = json.loads(value or b"{}")
            if "request_id" in event:
                self.events.setdefault(event["request_id"], {}).setdefault(event["event_id"], event)
        self.read = len(values)
        return self

    def first(self, request_id: str, state: str) -> dict[str, Any] | None:
        return next((event for event in self.events.get(request_id, {}).values() if event["state"] == state), None)

    def ends(self) -> dict[str, list[str]]:
        ended = {name: [event["state"] for event in events.values() if event["state"] in TERMINAL] for name, events in self.events.items()}
        return {name: states for name, states in ended.items() if states}


@pytest.fixture
def router(flink_cluster: FlinkCluster, topics: Settings) -> Iterator[RouterJob]:
    """Started under a policy with a small low lane; a realtime request that is queued proves that the control topic was read."""
    send(topics, names.CONTROL, policy().to_json(), key="policy")
    with routing(flink_cluster, topics.model_copy(update={"lease_s": 8.0})) as job:
        job.wait_state(job.send(names.REALTIME, request(tier="pro")), "Queued")
        yield job


@pytest.fixture
def ledger(router: RouterJob) -> Ledger:
    return Ledger(router)


def send_backlog(router: RouterJob) -> None:
    router.send(names.BATCH, *(request(tenant=f"t{index % 8}", tier="pro", prompt="a red heart " * 30) for index in range(BACKLOG)))


def lag(router: RouterJob) -> int:
    """Messages of the batch topic past what the router's consumer group has committed."""
    settings = router.settings
    group = f"{settings.topic_prefix}router.{settings.cell}"
    with closing(Consumer({"bootstrap.servers": settings.bootstrap, "group.id": group, "log_level": 0})) as consumer:
        topic = settings.topic_prefix + names.BATCH
        partitions = [TopicPartition(topic, number) for number in consumer.list_topics(topic, 10).topics[topic].partitions]
        committed = consumer.committed(partitions, timeout=10)
        return sum(consumer.get_watermark_offsets(one, timeout=10)[1] - max(0, one.offset) for one in committed)


def backpressured_ms(router: RouterJob) -> float:
    """Of each second, how long Flink's flow control holds the task that reads the batch topic."""
    vertices = request_json(f"{router.cluster.url}/jobs/{router.job_id}")["vertices"]
    vertex = next(vertex["id"] for vertex in vertices if names.BATCH in vertex["name"])
    address = f"{router.cluster.url}/jobs/{router.job_id}/vertices/{vertex}/subtasks/metrics?get=backPressuredTimeMsPerSecond"
    metrics = request_json(address)
    return float(metrics[0]["avg"]) if metrics else 0.0


def checkpoint_durations_ms(router: RouterJob, since: float) -> list[int]:
    """Of the completed checkpoints that were triggered after ``since``, in seconds since 1970; a failed one fails the test."""
    history = request_json(f"{router.cluster.url}/jobs/{router.job_id}/checkpoints")["history"]
    recent = [one for one in history if one["trigger_timestamp"] >= 1000 * since]
    assert not [one for one in recent if one["status"] == "FAILED"]
    return [one["end_to_end_duration"] for one in recent if one["status"] == "COMPLETED"]


def wait_held(router: RouterJob) -> None:
    """Until the gate is closed and everything before it is full."""

    def held() -> bool:
        return router.metrics("batch_open").get("batch_open") == 0 and backpressured_ms(router) > 500

    wait_for(held, 60, "the batch source held by backpressure", interval=0.5)


def queued_s(router: RouterJob) -> float:
    return router.metrics("lane.low.queued_gpu_ms")["lane.low.queued_gpu_ms"] / 1000


def assert_near_bound(router: RouterJob, since: float) -> None:
    """Above the bound there is what was on its way when the gate closed, and one request for each second that it stayed so."""
    overflow = WINDOW + 4 + (time.time() - since)
    assert 0.8 * BOUND_S <= queued_s(router) <= BOUND_S + overflow * COST_S


def render_for_a_while(worker: StubWorker, lease: dict[str, Any]) -> list[dict[str, Any]]:
    timer = threading.Timer(RENDER_S, lambda: worker.send(complete_all(lease)))
    timer.daemon = True
    timer.start()
    return []


def slow_worker(router: RouterJob) -> StubWorker:
    """Four renders at a time, each of which takes a while."""
    worker = StubWorker(router.settings, "slow", slots=4, answer=hold)
    worker.answer = lambda lease: render_for_a_while(worker, lease)
    return worker


def lease_latency_s(router: RouterJob, ledger: Ledger) -> float:
    """From a realtime request's sending to its lease."""
    sent_at = time.time()
    (name,) = router.send(names.REALTIME, request(tier="pro"))
    event = wait_for(lambda: ledger.poll().first(name, "Processing"), 30, "a lease of a realtime request", interval=0)
    return float(event["at"]) - sent_at


def wait_all_completed(router: RouterJob, ledger: Ledger) -> None:
    with StubWorker(router.settings, "fast", slots=16, max_batch=8):
        wait_for(lambda: len(ledger.poll().ends()) >= len(router.sent), 180, f"an end of each of {len(router.sent)}", interval=0)
    assert ledger.ends() == {name: ["Completed"] for name in router.sent}
    assert not router.letters()


def test_batch_over_its_bound_waits_in_kafka_with_realtime_unaffected_beside_it(router: RouterJob, ledger: Ledger) -> None:
    began = time.time()
    send_backlog(router)
    wait_held(router)
    held_since = time.time()
    assert_near_bound(router, began)
    with slow_worker(router):
        latencies = sorted(lease_latency_s(router, ledger) for _ in range(20))
        durations = wait_for(lambda: (found := checkpoint_durations_ms(router, held_since))[3:] and found, 30, "four checkpoints")
        assert lag(router) > BACKLOG / 4
        assert backpressured_ms(router) > 500
        assert_near_bound(router, began)
    assert latencies[-1] < 1.0, latencies
    assert max(durations) < 5000, durations
    wait_all_completed(router, ledger)
    wait_for(lambda: lag(router) == 0, 30, "a batch topic that was read to its end")
    assert router.restarts() == 0


def test_a_taskmanager_killed_while_batch_is_held_loses_and_doubles_nothing(router: RouterJob, ledger: Ledger) -> None:
    send_backlog(router)
    wait_held(router)
    router.wait_checkpoint()
    router.kill_taskmanager()
    restarted_at = time.time()
    router.send(names.REALTIME, request(tier="pro"))
    wait_held(router)
    router.wait_checkpoint()
    assert lag(router) > BACKLOG / 4
    assert_near_bound(router, restarted_at - 60)
    wait_all_completed(router, ledger)
    assert router.restarts() >= 1
