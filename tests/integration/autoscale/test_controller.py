"""``atelier autoscale`` as a process: real topics on one side, a double of the Kubernetes API on the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from include.client.reader import Record, parse_scale
from include.config import PROJECT_ROOT, Settings
from include.contracts import topics as names
from include.platform.environment import settings_environment
from tests.support.kafka_client import TopicReader, send
from tests.support.kubernetes_api import ClusterDouble, cluster
from tests.support.waiting import wait_for
from tests.unit.include.autoscale.builders import credit, queued

pytestmark = pytest.mark.timeout(240)

RULES = """
every_s: 0.3
pools:
  spot:
    min_workers: 0
    max_workers: 20
    start_s: 5
    driver: {kind: kubernetes, namespace: atelier, workload: deployment/worker}
"""


class Program:
    """The command with a kubeconfig and rules of the test's own."""

    def __init__(self, settings: Settings, double: ClusterDouble, directory: Path) -> None:
        self.log = directory / "autoscale.log"
        self.rules = directory / "autoscale.yaml"
        self.rules.write_text(RULES)
        kubeconfig = directory / "kubeconfig"
        one = {"name": "x", "cluster": {"server": double.url}}, {"name": "x", "context": {"cluster": "x", "user": "x"}}
        parts = {"clusters": [one[0]], "contexts": [one[1]], "users": [{"name": "x", "user": {}}], "current-context": "x"}
        kubeconfig.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **parts}))
        self.environment = {**os.environ, **settings_environment(settings), "KUBECONFIG": str(kubeconfig)}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "include.platform.cli", "autoscale", "--rules", str(self.rules), *arguments]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=PROJECT_ROOT, env=self.environment, stdout=log, stderr=log)

    def once(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("--once", *arguments),
            cwd=PROJECT_ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)

    def lines(self) -> list[dict[str, object]]:
        """The decisions it wrote."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def double() -> Iterator[ClusterDouble]:
    with cluster() as made:
        yield made


@pytest.fixture
def program(topics: Settings, double: ClusterDouble, tmp_path: Path) -> Iterator[Program]:
    made = Program(topics, double, tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)


def waits(settings: Settings, name: str, predicted_s: float) -> None:
    send(settings, names.EVENTS, queued(name, predicted_s, at=time.time(), pools=("spot",)).to_json())


def test_a_pool_wakes_grows_and_survives_the_controllers_death(topics: Settings, double: ClusterDouble, program: Program) -> None:
    program.start()
    waits(topics, "a", 1.0)
    wait_for(lambda: double.replicas == 1, 60, f"one worker (log: {program.log})")
    waits(topics, "b", 8.0)
    wait_for(lambda: double.replicas > 1, 30, "as many as the backlog needs")
    published = TopicReader(topics, names.EVENTS)
    published.wait_until(lambda values: sum(1 for value in values if parse_scale(Record(value=value, partition=0, offset=0))) >= 2)
    published.close()

    program.end(signal.SIGKILL)
    before, grown, looks = len(program.lines()), double.replicas, double.looks
    double.settle()
    program.start()

    def looked() -> bool:
        send(topics, names.WORKERS, *(credit(name, pool="spot", at=time.time()).to_json() for name in double.pods))
        return double.looks >= looks + 5

    wait_for(looked, 60, f"five looks of the new one (log: {program.log})")
    assert (double.replicas, program.lines()[before:]) == (grown, []), "a restart changes nothing by itself"
    waits(topics, "c", 120.0)
    wait_for(lambda: double.replicas > grown, 60, "it goes on where it was")
    program.end()
    assert program.process is not None and program.process.returncode == 0


def test_once_and_dry_shows_a_table_and_changes_nothing(topics: Settings, double: ClusterDouble, program: Program) -> None:
    waits(topics, "a", 20.0)
    done = program.once("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "spot" in done.stdout and "20.0 s" in done.stdout and "device seconds wait up to" in " ".join(done.stdout.split())
    assert double.replicas == 0
    assert program.once().returncode == 0
    assert double.replicas >= 4


def test_what_can_not_be_seen_is_told_and_fails_the_command(topics: Settings, double: ClusterDouble, program: Program) -> None:
    double.refusal = 403
    done = program.once("--dry-run")
    assert done.returncode == 1
    assert "pool spot stays as it is" in done.stderr and "its role needs" in done.stderr
    program.environment["ATELIER_KAFKA_BOOTSTRAP"] = "127.0.0.1:9"
    done = program.once("--dry-run")
    assert done.returncode == 1 and "every pool stays as it is" in done.stderr
    program.rules.write_text("pools: {spot: {max_workers: none}}")
    done = program.once("--dry-run")
    assert done.returncode == 2 and "pools.spot.max_workers" in done.stderr
