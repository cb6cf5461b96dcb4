"""A champion's alias is moved to and fro in a real MLflow while requests flow through Kafka, the router on its cluster and a worker.

Two versions of the shipped base model at 64 px, registered with their golden images. A few requests are always under way, one more as soon
as one ends, so that what is measured is the switch and not a queue; one worker renders them. The first move is to a version that no worker
has seen: it loads beside the other, which goes on meanwhile. At every later move both are loaded.

- ``failed``: requests that did not end in Completed, of ``requests``.
- ``switch_s``: from the move of the alias to the first image of the version that it names now, the longest of the moves between loaded
  versions; ``switch_median_s``; ``first_switch_s``: of the move to the version that had to be fetched, checked and loaded first.
- ``stall_batches``: the longest time without a completion around any move, less the longest such time while no alias moved, in renders;
  ``longest_pause_s``, ``usual_pause_s``, ``render_s``: what it is made of.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from confluent_kafka import Producer

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics
from include.contracts.control import ModelDefaults
from include.contracts.events import TERMINAL
from include.platform.environment import ONE_THREAD, settings_environment, shared_environment
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.kafka import create_topics, kafka_service
from include.platform.mlflow import mlflow_service
from include.registry.aliases import CHAMPION, set_alias
from include.registry.publish import register_version
from models.pipelines.golden import GoldenShot, write_golden
from models.pipelines.text_to_image import save_pipeline
from models.training.base_model import load_base
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import TopicReader
from tests.support.registry import new_run
from tests.support.services import free_settings, running

MODEL, SIDE, STEPS = "emoji", 64, 4
DEFAULTS = ModelDefaults(width=SIDE, height=SIDE, steps=STEPS, guidance=3.0, sizes=((SIDE, SIDE),), step_s=0.05)
START_TIMEOUT_S, SWITCH_TIMEOUT_S, SETTLE_S = 600.0, 120.0, 3.0
WORKER = ("include.worker", "--worker-id", "worker-0", "--backend", "torch-eager")
PROCESSES = {"registry-watcher": ("include.registry.watcher",), "worker-0": WORKER}


@dataclass
class Shot:
    """One request of the flow."""

    sent_at: float
    ended_at: float = 0.0
    version: str = ""  #: of its image; empty where it failed
    render_s: float = 0.0


@dataclass
class Flow:
    """Requests of which a fixed number is under way at any time, and what came of them."""

    settings: Settings
    under_way: int
    shots: dict[str, Shot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.events = TopicReader(self.settings, topics.EVENTS)
        self.producer = Producer({"bootstrap.servers": self.settings.bootstrap, "linger.ms": 0})
        self.open = 0

    def turn(self) -> None:
        """Send what may be sent, read what was said."""
        while self.open < self.under_way:
            self._send()
        self.producer.poll(0)
        seen = len(self.events.values)
        for value in self.events.poll(0.02)[seen:]:
            self._take(json.loads(value or b"{}"))

    def run(self, seconds: float) -> None:
        until = time.time() + seconds
        while time.time() < until:
            self.turn()

    def first_of(self, version: str, since: float) -> float:
        """When the first image of the version came, of a request sent after ``since``."""
        deadline = time.time() + SWITCH_TIMEOUT_S
        while time.time() < deadline:
            self.turn()
            ends = [shot.ended_at for shot in self.shots.values() if shot.version == version and shot.sent_at >= since]
            if ends:
                return min(ends)
        raise SystemExit(f"no image of version {version} within {SWITCH_TIMEOUT_S:g} s")

    def finish(self) -> None:
        """Wait for the end of every request that was sent."""
        self.under_way = 0
        deadline = time.time() + SWITCH_TIMEOUT_S
        while time.time() < deadline and not all(shot.ended_at for shot in self.shots.values()):
            self.turn()
        self.events.close()

    def _send(self) -> None:
        name = f"swap-{len(self.shots):05}"
        message = {"request_id": name, "tenant": "bench", "tier": "enterprise", "prompt": "red apple", "allow_degradation": False}
        self.shots[name] = Shot(time.time())
        self.open += 1
        self.producer.produce(self.settings.topic_prefix + topics.REALTIME, json.dumps(message))

    def _take(self, event: dict[str, Any]) -> None:
        shot = self.shots.get(event.get("request_id", ""))
        if shot is not None and not shot.ended_at and event["state"] in TERMINAL:
            shot.ended_at = time.time()
            self.open -= 1
            if event["state"] == "Completed":
                shot.version, shot.render_s = event["model_version"], event["usage"]["render_s"]


def register_versions(settings: Settings) -> tuple[str, str]:
    """The base model, and the same with weights a little off."""
    pipeline, found = load_base(), []
    for name in ("first", "second"):
        directory = settings.home / name
        save_pipeline(pipeline, directory)
        write_golden(directory, pipeline, GoldenShot(width=SIDE, height=SIDE))
        ref = register_version(
            directory, model_name=MODEL, run_id=new_run(settings.mlflow), defaults=DEFAULTS, tags={}, uri=settings.mlflow
        )
        found.append(ref.version)
        with torch.no_grad():
            for weight in pipeline.network.parameters():
                weight.mul_(1.02)
    return found[0], found[1]


@dataclass(frozen=True, kw_only=True)
class Installation:
    settings: Settings
    versions: tuple[str, str]
    processes: dict[str, subprocess.Popen[bytes]]  #: by name of :data:`PROCESSES`


@contextmanager
def program(settings: Settings, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of :data:`PROCESSES`, with its log beside the others."""
    with (settings.home / "logs" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *PROCESSES[name]],
            cwd=PROJECT_ROOT,
            env={**shared_environment(settings, name), **settings_environment(settings), **ONE_THREAD},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def installation(directory: Path) -> Iterator[Installation]:
    """Everything but people and Airflow; the first version serves."""
    settings = free_settings(directory)
    say("starting Kafka, MLflow, JobManager, TaskManager")
    services = (kafka_service, mlflow_service, jobmanager_service, taskmanager_service)
    with running(settings, *(service(settings) for service in services)) as (_, _, manager, worker), ExitStack() as stack:
        create_topics(settings)
        versions = register_versions(settings)
        set_alias(MODEL, CHAMPION, versions[0], uri=settings.mlflow)
        cluster = FlinkCluster(settings, manager, worker)
        job = cluster.submit(PROJECT_ROOT / "flink_jobs" / "route_requests.py", env=settings_environment(settings))
        stack.callback(cluster.cancel, job)
        processes = {name: stack.enter_context(program(settings, name)) for name in PROCESSES}
        wait_warm(settings, versions[0])
        yield Installation(settings=settings, versions=versions, processes=processes)


def wait_warm(settings: Settings, version: str) -> None:
    """Until the worker has loaded the version."""
    say("waiting for the worker")
    reader, wanted = TopicReader(settings, topics.WORKERS), f'"{MODEL}/{version}"'.encode()
    try:
        reader.wait_until(lambda values: any(wanted in (value or b"") for value in values), START_TIMEOUT_S, "a warm worker")
    except AssertionError as error:
        logs = [(settings.home / "logs" / f"{name}.log").read_text(errors="replace")[-2000:] for name in PROCESSES]
        raise SystemExit("\n".join([str(error), *logs])) from error
    finally:
        reader.close()


def measure(settings: Settings, versions: tuple[str, str], moves: int, under_way: int) -> dict[str, Any]:
    flow = Flow(settings, under_way)
    flow.first_of(versions[0], 0.0)
    flow.run(SETTLE_S)  # the first batch of a shape is compared with single renders, which is no usual pause
    began = time.time()
    flow.run(5 * SETTLE_S)
    calm, switches, windows = (began, time.time()), [], []
    for number in range(moves):
        version, moved_at = versions[(number + 1) % 2], time.time()
        set_alias(MODEL, CHAMPION, version, uri=settings.mlflow)
        switches.append(flow.first_of(version, moved_at) - moved_at)
        flow.run(SETTLE_S)
        windows.append((moved_at, time.time()))
        pause = longest_pause(list(flow.shots.values()), windows[-1])
        say(f"move {number + 1}: version {version} after {switches[-1]:.2f} s, longest pause {pause:.2f} s")
    flow.finish()
    return figures(flow, switches, windows, calm)


def figures(flow: Flow, switches: list[float], windows: list[tuple[float, float]], calm: tuple[float, float]) -> dict[str, Any]:
    shots = list(flow.shots.values())
    render_s = statistics.median(shot.render_s for shot in shots if shot.version)
    longest, usual = max(longest_pause(shots, window) for window in windows), longest_pause(shots, calm)
    later = switches[1:]
    return {
        "failed": sum(not shot.version for shot in shots),
        "stall_batches": round(max(0.0, longest - usual) / render_s, 2),
        "switch_s": round(max(later), 2),
        "switch_median_s": round(statistics.median(later), 2),
        "first_switch_s": round(switches[0], 2),
        "requests": len(shots),
        "moves": len(switches),
        "longest_pause_s": round(longest, 3),
        "usual_pause_s": round(usual, 3),
        "render_s": round(render_s, 3),
        "load_average": round(os.getloadavg()[0], 1),
    }


def longest_pause(shots: list[Shot], window: tuple[float, float]) -> float:
    """The longest time without a completion in the window, its ends included."""
    ends = sorted(shot.ended_at for shot in shots if shot.version and window[0] <= shot.ended_at <= window[1])
    return max(later - earlier for earlier, later in pairwise([window[0], *ends, window[1]]))


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=10, help="moves of the alias, at least 2")
    parser.add_argument("--under-way", type=int, default=2, help="requests that wait or render at any time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory, installation(Path(directory)) as installed:
        result = measure(installed.settings, installed.versions, max(2, arguments.moves), arguments.under_way)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
