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
    job_id: str = ""
    sent: list[str] = field(default_factory=list)

    def submit(self, restore: Path | None = None) -> None:
        self.job_id = self.cluster.submit(ROUTE_REQUESTS, env=settings_environment(self.settings), restore=restore)

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

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(value or b"{}") for value in self.dead_letters.poll()]

    def restarts(self) -> int:
        metrics = request_json(f"{self.cluster.url}/jobs/{self.job_id}/metrics?get=numRestarts")
        return int(float(metrics[0]["value"]))

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


def _ends(events: list[dict[str, Any]]) -> list[str]:
    return [event["state"] for event in events if event["state"] in TERMINAL]


@contextmanager
def routing(cluster: FlinkCluster, settings: Settings) -> Iterator[RouterJob]:
    """The job over a test's topics, with a model in service."""
    with closing(TopicReader(settings, names.EVENTS)) as events, closing(TopicReader(settings, names.DEAD_LETTERS)) as dead_letters:
        send(settings, names.CONTROL, route(), key="model_route:emoji")
        job = RouterJob(settings, cluster, events, dead_letters)
        job.submit()
        yield job


@pytest.fixture
def router(flink_cluster: FlinkCluster, topics: Settings) -> Iterator[RouterJob]:
    with routing(flink_cluster, topics.model_copy(update={"lease_s": 8.0})) as job:
        yield job
