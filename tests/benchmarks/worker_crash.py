"""Workers that die and workers that freeze, with requests flowing: real Kafka, the real router job, real worker processes.

Some workers are killed with ``kill -9`` at random instants and started anew at once; meanwhile another one is stopped (SIGSTOP) for longer
than its lease, wakes up and goes on with what is somebody else's by then. Requests are kept waiting all the time, so that nearly every
instant falls into a render. The model is tiny; its files lie in the workers' cache.

- ``lost``: requests without a terminal event, and completed ones whose image is not stored.
- ``duplicate_terminal``: requests with two different terminal events.
- ``duplicate_objects``: images in the store beyond the one a request asked for, and images that are not those of the terminal event.
- ``fenced``: results that came from workers who no longer held the lease, and were ignored, as the router counts them.
- ``failed``: terminal events other than Completed. ``retries``: Retrying events, which tell how many kills hit a render.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics
from include.contracts.control import ModelRoute
from include.contracts.dispatch import ModelRef
from include.contracts.events import State
from include.platform.environment import ONE_THREAD, settings_environment
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, kafka_service
from include.registry.files import list_files
from include.storage import open_store
from tests.benchmarks.recovery import open_policy
from tests.integration.router.conftest import ROUTE_REQUESTS, RouterJob
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import TopicReader, send
from tests.support.registry import DEFAULTS
from tests.support.services import free_settings, running
from tests.support.waiting import wait_for

LEASE_S = 4.0
STEPS, OUTSTANDING = 60, 24
FREEZES_AT_LEAST_S, FREEZES_AT_MOST_S = 1.3 * LEASE_S, 2.0 * LEASE_S
PROCESSES = multiprocessing.get_context("forkserver")


def serve(settings: Settings, worker_id: str, log: Path) -> None:
    """A worker's process. It is forked from one that has imported torch already, so it is there in a moment."""
    from include.worker.run import log_to_stderr, run_worker
    from include.worker.service import WorkerOptions

    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    log_to_stderr()
    run_worker(settings, WorkerOptions(pool=settings.worker_pool, worker_id=worker_id))


class Fleet:
    """Worker processes by name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: dict[str, Any] = {}
        self.started_at: dict[str, float] = {}

    def start(self, worker_id: str) -> None:
        arguments = (self.settings, worker_id, self.settings.home / f"{worker_id}.log")
        process = self.processes[worker_id] = PROCESSES.Process(target=serve, args=arguments, name=worker_id)
        process.start()
        self.started_at[worker_id] = time.time()

    def kill(self, worker_id: str) -> None:
        process = self.processes[worker_id]
        process.kill()
        process.join(30)

    def freeze(self, worker_id: str, seconds: float) -> None:
        os.kill(self.processes[worker_id].pid, signal.SIGSTOP)
        threading.Event().wait(seconds)
        os.kill(self.processes[worker_id].pid, signal.SIGCONT)

    def end(self) -> None:
        for worker_id in self.processes:
            self.kill(worker_id)


class Ledger:
    """Events as they come, and the requests sent: new ones are sent as long as few are open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = TopicReader(settings, topics.EVENTS)
        self.producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 0, "log_level": 0})
        self.sent: list[str] = []
        self.ends: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  #: request id → event id → terminal event
        self.busy: dict[str, str] = {}  #: request id → worker that renders it
        self.heard_at: dict[str, float] = {}  #: worker → time of the newest event that names it
        self.retried: set[str] = set()  #: ids of the events
        self._read = 0

    def poll(self) -> Ledger:
        values = self.reader.poll(0.05)
        for value in values[self._read :]:
            event = json.loads(value or b"{}")
            if "state" in event:
                self._note(event)
        self._read = len(values)
        return self

    def feed(self) -> None:
        """Keep requests waiting."""
        for _ in range(OUTSTANDING - (len(self.sent) - len(self.ends))):
            number = len(self.sent)
            message = {"request_id": f"r-{number}", "tenant": f"tenant{number % 4}", "prompt": "a red heart", "tier": "enterprise"}
            topic = (topics.REALTIME, topics.BATCH)[number % 2]
            self.producer.produce(self.settings.topic_prefix + topic, json.dumps({**message, "steps": STEPS, "width": 32, "height": 32}))
            self.sent.append(message["request_id"])
        self.producer.poll(0)

    def _note(self, event: dict[str, Any]) -> None:
        request_id, state = event["request_id"], State(event["state"])
        if event.get("worker_id"):
            self.heard_at[event["worker_id"]] = event["at"]
        if state is State.PROCESSING and event.get("progress"):
            self.busy[request_id] = event["worker_id"]
        else:
            self.busy.pop(request_id, None)
        if state is State.RETRYING:
            self.retried.add(event["event_id"])
        if state.terminal:
            self.ends[request_id][event["event_id"]] = event


@contextmanager
def router(directory: Path) -> Iterator[RouterJob]:
    """Kafka, the session cluster with the router job on it, and a tiny model in service."""
    settings = free_settings(directory, lease_s=LEASE_S, max_attempts=20)
    say("starting Kafka, JobManager, TaskManager")
    with ExitStack() as stack:
        _, manager, tasks = stack.enter_context(
            running(settings, kafka_service(settings), jobmanager_service(settings), taskmanager_service(settings))
        )
        create_topics(settings)
        champion = put_model(settings)
        route = ModelRoute(at=time.time(), name=champion.name, champion=champion, defaults=DEFAULTS, is_default=True)
        send(settings, topics.CONTROL, route.to_json(), key=route.key)
        policy = open_policy().model_copy(update={"lease_s": LEASE_S, "max_attempts": 20})
        send(settings, topics.CONTROL, policy.to_json(), key=policy.key)
        say("submitting the router")
        cluster = FlinkCluster(settings, manager, tasks)
        job_id = cluster.submit(ROUTE_REQUESTS, env=settings_environment(settings))
        readers = [TopicReader(settings, topic) for topic in (topics.EVENTS, topics.DEAD_LETTERS)]
        for reader in readers:
            stack.callback(reader.close)
        yield RouterJob(settings, cluster, *readers, job_id=job_id)


def put_model(settings: Settings) -> ModelRef:
    """A tiny pipeline where workers keep the files that they fetched; each verifies it by its digest."""
    from tests.support.tiny_pipeline import write_tiny_pipeline

    part = write_tiny_pipeline(settings.home / "tiny")
    digest = list_files(part).digest
    (settings.home / "models").mkdir(exist_ok=True)
    part.rename(settings.home / "models" / digest)
    return ModelRef(name="emoji", version="1", digest=digest, source="mlflow-artifacts:/0/none")


def kill_some(fleet: Fleet, ledger: Ledger, victims: list[str], count: int, seed: int, over: threading.Event) -> None:
    """Each time one that has been at work since its start: one that is still starting would be a weak victim."""
    chance = random.Random(seed)

    def at_work() -> list[str]:
        return [name for name in victims if ledger.heard_at.get(name, 0.0) > fleet.started_at[name]]

    for number in range(count):
        victim = chance.choice(wait_for(at_work, 180, "a worker to kill", interval=0.01))
        over.wait(chance.uniform(0.0, 1.5))
        fleet.kill(victim)
        fleet.start(victim)
        if number % 10 == 9:
            say(f"{number + 1} killed")


def freeze_some(fleet: Fleet, ledger: Ledger, victim: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(count):
        wait_for(lambda: victim in list(ledger.busy.values()), 180, f"{victim} to render", interval=0.01)
        fleet.freeze(victim, chance.uniform(FREEZES_AT_LEAST_S, FREEZES_AT_MOST_S))
        say(f"{number + 1} frozen and woken")


def measure(job: RouterJob, kills: int, freezes: int, seed: int) -> dict[str, Any]:
    fleet, ledger, over = Fleet(job.settings), Ledger(job.settings), threading.Event()
    frozen, killed = "worker-0", ["worker-1", "worker-2"]
    for worker_id in (frozen, *killed):
        fleet.start(worker_id)
    threads = [
        threading.Thread(target=kill_some, args=(fleet, ledger, killed, kills, seed, over)),
        threading.Thread(target=freeze_some, args=(fleet, ledger, frozen, freezes, seed + 1)),
    ]
    try:
        ledger.feed()
        wait_for(lambda: len(ledger.poll().ends) > 3, 180, "the first completions", interval=0)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            ledger.poll().feed()
        say(f"{len(ledger.sent)} requests sent; waiting for the last")
        wait_for(lambda: len(ledger.poll().ends) >= len(ledger.sent), 180, "an end of each request", interval=0)
        return {**judged(job.settings, ledger), "kills": kills, "freezes": freezes, "fenced": fenced(job)}
    finally:
        over.set()
        fleet.end()


def judged(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    store = open_store(settings)
    stored: dict[str, list[str]] = defaultdict(list)
    for key in store.list("images/"):
        stored[key.split("/")[2]].append(key)
    ends = {request_id: next(iter(events.values())) for request_id, events in ledger.ends.items()}
    completed = {request_id: end for request_id, end in ends.items() if end["state"] == State.COMPLETED}
    wrong = 0
    for end in completed.values():
        info = store.head(end["images"][0]["key"])
        wrong += info is not None and info.sha256 != end["images"][0]["sha256"]
    return {
        "lost": len(set(ledger.sent) - ends.keys()) + sum(not stored[request_id] for request_id in completed),
        "duplicate_terminal": sum(len(events) > 1 for events in ledger.ends.values()),
        "duplicate_objects": sum(max(0, len(keys) - 1) for keys in stored.values()) + wrong,
        "failed": len(ends) - len(completed),
        "requests": len(ledger.sent),
        "retries": len(ledger.retried),
    }


def fenced(job: RouterJob) -> int:
    """Once Flink's REST API, which shows its counters with a delay of seconds, tells of nothing in flight."""
    settled: list[float] = []

    def steady() -> bool:
        found = job.metrics("fenced", "in_flight")
        settled.append(found.get("fenced", -1.0) if found.get("in_flight") == 0 else -1.0)
        return len(settled) >= 3 and settled[-1] >= 0 and len(set(settled[-3:])) == 1

    wait_for(steady, 90, "the router's count of ignored results", interval=6)
    return int(settled[-1])


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--freezes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the instants and the victims")
    arguments = parser.parse_args()
    os.environ.update({**ONE_THREAD, "PYTHONPATH": str(PROJECT_ROOT)})
    PROCESSES.set_forkserver_preload(["torch", "models.pipelines.text_to_image", "include.worker.service"])
    with tempfile.TemporaryDirectory() as directory, router(Path(directory)) as job:
        result = measure(job, arguments.kills, arguments.freezes, arguments.seed)
    print(json.dumps({**result, "load_average": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
