"""The router on a real session cluster under load: producer → Kafka → router → Kafka → workers that render nothing.

``p50_ms``, ``p99_ms``: from the producer's send to the arrival of the request's lease at its worker, by rate; requests of 12 tenants and
all tiers, four of five realtime. ``max_rps``: leased requests a second while far more are sent than the router can take. Every request's
completion goes back. ``cpu_ms``: CPU time of the TaskManager a request in that flood, which
depends less on who else uses the machine. ``lost``: requests that never came to a worker. ``load_average``: of the machine at the end,
to judge the rest by. ``warm_s``: seconds at 800/s before anything is measured: until the virtual machine's compiler is done, seen by a
request costing the TaskManager no less in one window than in the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Any

import orjson
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics
from include.platform.environment import settings_environment
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, kafka_service
from tests.integration.router.stub_worker import completion
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import send
from tests.support.services import free_settings, running

WORKERS, SLOTS, MAX_BATCH = 4, 16, 4
TIERS = ("free", "pro", "enterprise")
FLOOD, FLOOD_RPS = 30_000, 6000
WARM_RPS, WARM_WINDOW_S, WARM_MOST_S = 800, 20, 240
#: Costs of two windows that differ by less are alike.
ALIKE = 0.05
BUFFER = {"queue.buffering.max.messages": 500_000}


@dataclass
class Arrivals:
    """What the workers' process saw of one phase."""

    latencies_ms: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)  #: seconds since 1970


class NoOpWorkers:
    """Several workers in one process: each lease is answered at once with the completion of its requests."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phases: dict[str, Arrivals] = defaultdict(Arrivals)
        self.producer = Producer({"bootstrap.servers": settings.bootstrap, "log_level": 0})
        self.consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "bench", "log_level": 0})
        self.consumer.assign([TopicPartition(settings.topic_prefix + topics.dispatch(settings.worker_pool), 0, 0)])
        self.beat_at = 0.0

    def run(self, parent: Connection) -> None:
        """Until the parent says ``stop``; asked for a phase by its name, answers with its :class:`Arrivals`."""
        while True:
            for message in self.consumer.consume(200, 0.002):
                self._take(orjson.loads(message.value()), time.time())
            if time.monotonic() >= self.beat_at:
                self.beat_at = time.monotonic() + 1.0
                self._beat()
            if parent.poll():
                asked = parent.recv()
                if asked == "stop":
                    return
                parent.send(self.phases[asked])

    def _say(self, kind: str, worker_id: str, **fields: Any) -> None:
        identity = {"worker_id": worker_id, "incarnation": "i-1", "cell": self.settings.cell, "pool": self.settings.worker_pool}
        message = {"kind": kind, **identity, "at": time.time(), **fields}
        self.producer.produce(self.settings.topic_prefix + topics.WORKERS, orjson.dumps(message))

    def _beat(self) -> None:
        for number in range(WORKERS):
            self._say("credit", f"w-{number}", slots=SLOTS, max_batch=MAX_BATCH)
        self.producer.poll(0)

    def _take(self, message: dict[str, Any], now: float) -> None:
        if message["kind"] != "lease":
            return
        for task in message["tasks"]:
            phase, sent_ns, _ = task["request_id"].split("-")
            arrivals = self.phases[phase]
            arrivals.latencies_ms.append(now * 1e3 - int(sent_ns) / 1e6)
            arrivals.seen.append(now)
            answer = completion(message, task)
            self._say(answer.pop("kind"), message["worker_id"], **answer)
        self.producer.poll(0)


def work(settings: Settings, parent: Connection) -> None:
    NoOpWorkers(settings).run(parent)


class Load:
    """An open loop: requests are sent when they are due, whatever became of the earlier ones."""

    def __init__(self, settings: Settings, workers: Connection) -> None:
        self.settings = settings
        self.workers = workers
        self.pause = threading.Event()
        self.producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 2, "log_level": 0, **BUFFER})

    def send(self, phase: str, rate: float, seconds: float) -> int:
        began, sent, total = time.perf_counter(), 0, round(rate * seconds)
        while sent < total:
            due = min(total, int((time.perf_counter() - began) * rate) + 1)
            for number in range(sent, due):
                self._request(phase, number)
            sent = due
            self.producer.poll(0)
            self.pause.wait(max(0.0, began + sent / rate - time.perf_counter()))
        self.producer.flush(30)
        return sent

    def arrivals(self, phase: str, wanted: int, timeout_s: float) -> Arrivals:
        """What arrived, once everything did or nothing more comes for a while."""
        deadline, last = time.monotonic() + timeout_s, -1
        while True:
            self.workers.send(phase)
            found: Arrivals = self.workers.recv()
            if len(found.seen) >= wanted or (time.monotonic() > deadline and len(found.seen) == last):
                return found
            last = len(found.seen)
            self.pause.wait(0.5)

    def _request(self, phase: str, number: int) -> None:
        topic = topics.BATCH if number % 5 == 0 else topics.REALTIME
        message = {
            "request_id": f"{phase}-{time.time_ns()}-{number}",
            "tenant": f"tenant{number % 12}",
            "tier": TIERS[number % 3],
            "prompt": "a red heart on a white background, flat colours",
            "steps": 4 + 4 * (number % 2),
        }
        self.producer.produce(self.settings.topic_prefix + topic, orjson.dumps(message))


def model_route() -> str:
    """A model so cheap that no lane's bound is met: what is measured is the router."""
    champion = {"name": "emoji", "version": "1", "digest": "0" * 64, "source": "none"}
    defaults = {"width": 32, "height": 32, "steps": 4, "guidance": 2.0, "step_s": 1e-6}
    return json.dumps(
        {"kind": "model_route", "name": "emoji", "at": time.time(), "champion": champion, "defaults": defaults, "is_default": True}
    )


@contextmanager
def router(directory: Path) -> Iterator[tuple[Settings, psutil.Process]]:
    """Kafka, the session cluster and the router job on it; the process is the TaskManager."""
    settings = free_settings(directory)
    say("starting Kafka, JobManager, TaskManager")
    with running(settings, kafka_service(settings), jobmanager_service(settings), taskmanager_service(settings)) as (_, manager, worker):
        create_topics(settings)
        send(settings, topics.CONTROL, model_route(), key="model_route:emoji")
        say("submitting the router")
        cluster = FlinkCluster(settings, manager, worker)
        job_id = cluster.submit(PROJECT_ROOT / "flink_jobs" / "route_requests.py", env=settings_environment(settings))
        assert worker.process is not None
        yield settings, psutil.Process(worker.process.pid)
        cluster.cancel(job_id)


def measure(settings: Settings, taskmanager: psutil.Process, rates: list[int], seconds: float) -> dict[str, Any]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    workers = context.Process(target=work, args=(settings, theirs), daemon=True)
    workers.start()
    load = Load(settings, ours)
    result: dict[str, Any] = {"rates": {}, "lost": 0, "warm_s": warm_up(load, taskmanager)}
    for rate in rates:
        sent = load.send(f"r{rate}", rate, seconds)
        found = load.arrivals(f"r{rate}", sent, 30)
        cuts = quantiles(found.latencies_ms, n=100)
        result["rates"][str(rate)] = {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}
        result["lost"] += sent - len(found.seen)
        say(f"{rate}/s: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, {sent - len(found.seen)} lost")
    before = _cpu_s(taskmanager)
    result["max_rps"] = saturated(load, result)
    result["cpu_ms"] = round(1e3 * (_cpu_s(taskmanager) - before) / FLOOD, 3)
    ours.send("stop")
    workers.join(10)
    return result


def warm_up(load: Load, taskmanager: psutil.Process) -> int:
    """Seconds until two windows at the same rate cost the TaskManager alike, :data:`WARM_MOST_S` at most."""
    costs: list[float] = []
    while len(costs) < 3 or (costs[-1] < (1 - ALIKE) * costs[-2] and len(costs) * WARM_WINDOW_S < WARM_MOST_S):
        before, phase = _cpu_s(taskmanager), f"warm{len(costs)}"
        sent = load.send(phase, WARM_RPS, WARM_WINDOW_S)
        load.arrivals(phase, sent, 60)
        costs.append((_cpu_s(taskmanager) - before) / sent)
        say(f"warming up: {1e3 * costs[-1]:.2f} ms of CPU time a request")
    return len(costs) * WARM_WINDOW_S


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def saturated(load: Load, result: dict[str, Any]) -> int:
    """The rate at which leases arrived between the first and the last tenth of a flood."""
    sent = load.send("flood", FLOOD_RPS, FLOOD / FLOOD_RPS)
    found = load.arrivals("flood", sent, 60)
    result["lost"] += sent - len(found.seen)
    first, last = len(found.seen) // 10, len(found.seen) * 9 // 10
    rate = (last - first) / (found.seen[last] - found.seen[first])
    say(f"flood of {sent}: {rate:,.0f}/s, {sent - len(found.seen)} lost")
    return round(rate)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="200,1000", help="requests a second, comma-separated")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each rate is held")
    arguments = parser.parse_args()
    rates = [int(rate) for rate in arguments.rates.split(",")]
    with tempfile.TemporaryDirectory() as directory, router(Path(directory)) as (settings, taskmanager):
        result = measure(settings, taskmanager, rates, arguments.seconds)
    result["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
