"""What a crash costs: 10,000 requests queued, ``kill -9`` of the TaskManager, then of the JobManager, while a worker takes from the queue.

Whoever is killed is started again at once, as the supervisor of the local profile does it, and the service ``router`` watches over the job.

- ``recovery_s``: the longer of the two times without a new lease after a kill; ``taskmanager_s`` and ``jobmanager_s``: each of them.
- ``lost``: requests without a terminal event. ``duplicate_terminal``: requests with two different terminal events.
- ``repeated_lines``: terminal events that a restored job said again, with the same event id, as delivery at least once allows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from include.config import Settings
from include.contracts import topics
from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane, State
from include.contracts.policy import Quota
from include.contracts.requests import Tier
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, kafka_service
from include.platform.services import local_services
from tests.integration.router.conftest import route
from tests.integration.router.stub_worker import StubWorker
from tests.support.kafka_client import TopicReader, send
from tests.support.services import Running, free_settings, running
from tests.support.waiting import wait_for

LEASE_TIMEOUT_S = 180.0
#: The worker gets a lease every few hundredths of a second; a longer pause than this is an outage, over when so many leases came after it.
OUTAGE_S, ENOUGH = 2.0, 20


class Ends:
    """Terminal events by request, as they come."""

    def __init__(self, settings: Settings) -> None:
        self.reader = TopicReader(settings, topics.EVENTS)
        self.queued: set[str] = set()
        self.ends: dict[str, Counter[str]] = defaultdict(Counter)
        self._read = 0

    def poll(self) -> Ends:
        values = self.reader.poll()
        for value in values[self._read :]:
            event = json.loads(value or b"{}")
            if event.get("state") == State.QUEUED:
                self.queued.add(event["request_id"])
            elif "state" in event and State(event["state"]).terminal:
                self.ends[event["request_id"]][event["event_id"]] += 1
        self._read = len(values)
        return self


def open_policy() -> Policy:
    """Bounds and quotas that no request of this benchmark meets."""
    quota = Quota(rate=1e6, burst_s=1e9, max_queued=1_000_000, max_running=100_000)
    bounds = dict.fromkeys(Lane, 1e9)
    return default_policy().model_copy(update={"at": time.time(), "lane_bound_s": bounds, "quotas": dict.fromkeys(Tier, quota)})


@contextmanager
def installation(directory: Path) -> Iterator[tuple[Settings, Running, Running]]:
    """Kafka, the session cluster, and the service that keeps the router job on it; JobManager and TaskManager are yielded."""
    settings = free_settings(directory)
    keeper = next(service for service in local_services(settings) if service.name == "router")
    say("starting Kafka, JobManager, TaskManager, router")
    with running(settings, kafka_service(settings), jobmanager_service(settings), taskmanager_service(settings)) as (_, manager, tasks):
        create_topics(settings)
        send(settings, topics.CONTROL, route(), key="model_route:emoji")
        send(settings, topics.CONTROL, open_policy().to_json(), key="policy")
        with running(settings, keeper):
            yield settings, manager, tasks


def send_requests(settings: Settings, count: int) -> list[str]:
    producer = Producer({"bootstrap.servers": settings.bootstrap, "queue.buffering.max.messages": 500_000, "log_level": 0})
    ids = [f"r-{number}" for number in range(count)]
    for number, request_id in enumerate(ids):
        topic, tier = (topics.REALTIME, topics.BATCH)[number % 2], list(Tier)[number % 3]
        message = {"request_id": request_id, "tenant": f"tenant{number % 12}", "tier": tier, "prompt": "a red heart"}
        producer.produce(settings.topic_prefix + topic, json.dumps(message))
        producer.poll(0)
    producer.flush(60)
    return ids


def recovery_s(name: str, victim: Running, worker: StubWorker) -> float:
    """Kill it and start it again; the longest time without a lease, once leases come again.

    Not the time to the first lease: a TaskManager goes on for a while before it misses its JobManager.
    """
    known = len(worker.leases)
    victim.kill()
    victim.start()

    def outage() -> float | None:
        issued = [lease["issued_at"] for lease in worker.leases[known - 1 :]]
        gaps = [later - earlier for earlier, later in pairwise(issued)]
        longest = max(gaps, default=0.0)
        return longest if longest > OUTAGE_S and len(gaps) - gaps.index(longest) > ENOUGH else None

    longest = wait_for(outage, LEASE_TIMEOUT_S, f"leases to stop and to come again after {name} was killed", interval=0.05)
    victim.wait_healthy()
    say(f"{name}: {longest:.1f} s without a lease")
    return longest


def measure(settings: Settings, manager: Running, tasks: Running, count: int) -> dict[str, Any]:
    ends = Ends(settings)
    ids = send_requests(settings, count)
    wait_for(lambda: len(ends.poll().queued) >= count, 120, f"{count} queued", interval=0)
    say(f"{count} queued")
    with StubWorker(settings, "worker-0", slots=1) as worker:
        wait_for(lambda: len(worker.leases) > 50, 60, "the worker to take from the queue")
        taskmanager_s = recovery_s("TaskManager", tasks, worker)
        left = count - len(ends.poll().ends)
        jobmanager_s = recovery_s("JobManager", manager, worker)
        say(f"{left} were still queued at the second kill; finishing them")
        with StubWorker(settings, "worker-1", slots=16, max_batch=8):
            wait_for(lambda: len(ends.poll().ends) >= count, 240, f"an end of each of {count}", interval=0)
    found = ends.poll().ends
    return {
        "lost": len(set(ids) - set(found)),
        "duplicate_terminal": sum(len(kinds) > 1 for kinds in found.values()),
        "repeated_lines": sum(sum(kinds.values()) - len(kinds) for kinds in found.values()),
        "recovery_s": round(max(taskmanager_s, jobmanager_s), 1),
        "taskmanager_s": round(taskmanager_s, 1),
        "jobmanager_s": round(jobmanager_s, 1),
        "queued_at_second_kill": left,
        "load_average": round(os.getloadavg()[0], 1),
    }


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000, help="requests that wait")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as (settings, manager, tasks):
        result = measure(settings, manager, tasks, arguments.queued)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
