"""The router job on the real cluster, and eyes on what it says."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics as names
from include.contracts.events import State
from include.platform.environment import settings_environment
from include.platform.flink import checkpoint_directory
from include.platform.http import request_json
from include.platform.kafka import create_topics, delete_topics
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import TopicReader, send
from tests.support.waiting import wait_for

ROUTE_REQUESTS = PROJECT_ROOT / "flink_jobs" / "route_requests.py"
TERMINAL = {state.value for state in State if state.terminal}


def route(**changes: Any) -> str:
    """Model ``emoji`` in service."""
    champion = {"name": "emoji", "version": "1", "digest": "0" * 64, "source": "mlflow-artifacts:/1"}
    defaults = {"width": 32, "height": 32, "steps": 4, "guidance": 2.0, "sizes": [[32, 32], [64, 64]], "step_s": 0.01}
    message = {"kind": "model_route", "name": "emoji", "at": time.time(), "champion": champion, "defaults": defaults, "is_default": True}
    return json.dumps(message | changes)


def request(request_id: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"request_id": request_id or uuid.uuid4().hex, "tenant": "acme", "prompt": "a red heart"} | changes


@dataclass
class RouterJob:
    """One submission and its successors over the same topics."""

    settings: Settings
    cluster: FlinkCluster
    events: TopicReader
    dead_letters: TopicReader
    script: Path = ROUTE_REQUESTS
    job_id: str = ""
    sent: list[str] = field(default_factory=list)

    def submit(self, restore: Path | None = None) -> None:
        self.job_id = self.cluster.submit(self.script, env=settings_environment(self.settings), restore=restore)

    def send(self, topic: str, *requests: dict[str, Any]) -> list[str]:
        """Send requests; returns their ids."""
        send(self.settings, topic, *(json.dumps(one) for one in requests))
        ids = [one["request_id"] for one in requests]
        self.sent += ids
        return ids

    def history(self) -> dict[str, list[dict[str, Any]]]:
        """Events by request in order, without repeats of an event id, as a consumer of at-least-once delivery sees them."""
        found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for value in self.events.poll():
            event = json.loads(value or b"{}")
            if "request_id" not in event:
                continue  # of the lanes' shares
            found[event["request_id"]].setdefault(event["event_id"], event)
        return {request_id: list(events.values()) for request_id, events in found.items()}

    def terminal(self, request_id: str) -> list[dict[str, Any]]:
        return [event for event in self.history().get(request_id, []) if event["state"] in TERMINAL]

    def wait_completed(self, ids: list[str], timeout: float = 60.0) -> None:
        """Until each is over; then each must have completed, once."""
        self.wait_history(lambda history: all(_ends(history.get(name, [])) for name in ids), timeout, f"an end of each of {len(ids)}")
        history = self.history()
        assert {name: _ends(history[name]) for name in ids} == {name: ["Completed"] for name in ids}

    def wait_history(self, enough: Callable[[dict[str, list[dict[str, Any]]]], bool], timeout: float, message: str) -> None:
        wait_for(lambda: enough(self.history()), timeout, message, interval=0)

    def wait_state(self, ids: list[str], state: str, timeout: float = 30.0) -> None:
        def reached(history: dict[str, list[dict[str, Any]]]) -> bool:
            return all(any(event["state"] == state for event in history.get(name, [])) for name in ids)

        self.wait_history(reached, timeout, f"{state} of each of {len(ids)}")

    def wait_any_processing(self) -> None:
        self.wait_history(lambda history: any(_is_processing(events) for events in history.values()), 30, "a dispatch")

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(value or b"{}") for value in self.dead_letters.poll()]

    def restarts(self) -> int:
        """How often Flink restarted the job; its first question after a metric gets no answer yet."""
        address = f"{self.cluster.url}/jobs/{self.job_id}/metrics?get=numRestarts"
        metrics = wait_for(lambda: request_json(address), 30, "the job's restart count")
        return int(float(metrics[0]["value"]))

    def kill_taskmanager(self) -> None:
        """And wait until the job runs again: right after the kill Flink still shows it as running."""
        before = self.restarts()
        self.cluster.kill_taskmanager()
        wait_for(lambda: self.restarts() > before, 60, "a restart of the job")
        self.cluster.wait_running(self.job_id)

    def metrics(self, *wanted: str) -> dict[str, float]:
        """Gauges of the scheduler's operator by the end of their names; what Flink does not know yet is left out."""
        vertices = request_json(f"{self.cluster.url}/jobs/{self.job_id}")["vertices"]
        vertex = next(vertex["id"] for vertex in vertices if "schedule" in vertex["name"])
        address = f"{self.cluster.url}/jobs/{self.job_id}/vertices/{vertex}/subtasks/0/metrics"
        known = [metric["id"] for metric in request_json(address)]
        names_ = {name: found for name in wanted for found in known if found.endswith(f".{name}")}
        if not names_:
            return {}
        values = {metric["id"]: float(metric["value"]) for metric in request_json(f"{address}?get={','.join(names_.values())}")}
        return {name: values[found] for name, found in names_.items() if found in values}

    def checkpoints(self) -> list[Path]:
        """Completed ones of this job, the newest first."""
        found = (checkpoint_directory(self.settings) / self.job_id).glob("chk-*/_metadata")
        return [metadata.parent for metadata in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]

    def wait_checkpoint(self) -> None:
        """Until a checkpoint that began after this call is complete. One may be under way, so the second new one is awaited."""
        known = {path.name for path in self.checkpoints()}
        seen: set[str] = set()

        def two_more() -> bool:
            seen.update(path.name for path in self.checkpoints())
            return len(seen - known) >= 2

        wait_for(two_more, 30, "two more checkpoints")


def _is_processing(events: list[dict[str, Any]]) -> bool:
    return events[-1]["state"] == "Processing"


def _ends(events: list[dict[str, Any]]) -> list[str]:
    return [event["state"] for event in events if event["state"] in TERMINAL]


@contextmanager
def routing(cluster: FlinkCluster, settings: Settings, script: Path = ROUTE_REQUESTS) -> Iterator[RouterJob]:
    """The job over a test's topics, with a model in service."""
    settings = settings.model_copy(update={"checkpoint_s": 1.0})  # so that a test need not wait long for one
    with closing(TopicReader(settings, names.EVENTS)) as events, closing(TopicReader(settings, names.DEAD_LETTERS)) as dead_letters:
        send(settings, names.CONTROL, route(), key="model_route:emoji")
        job = RouterJob(settings, cluster, events, dead_letters, script)
        job.submit()
        yield job


@contextmanager
def isolated_topics(settings: Settings, bootstrap: str) -> Iterator[Settings]:
    """As the fixture ``topics``, for as long as wanted."""
    changes = {"topic_prefix": f"test-{uuid.uuid4().hex[:8]}.", "kafka_bootstrap": bootstrap}
    isolated = settings.model_copy(update=changes)
    create_topics(isolated)
    yield isolated
    delete_topics(isolated)


@pytest.fixture
def router(flink_cluster: FlinkCluster, topics: Settings) -> Iterator[RouterJob]:
    with routing(flink_cluster, topics.model_copy(update={"lease_s": 8.0})) as job:
        yield job
