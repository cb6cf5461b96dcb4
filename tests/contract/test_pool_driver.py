"""What every pool driver does, run on the one in memory, on a real supervisord, on a double of the Kubernetes API, and on a real one.

The real one is that of the kubeconfig which ``ATELIER_TEST_KUBECONFIG`` names; docs/components/autoscale.md says how to start one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client

from include.autoscale.drivers import local
from include.autoscale.drivers.kubernetes import KubernetesDriver
from include.autoscale.drivers.memory import MemoryDriver
from include.autoscale.rules import KubernetesTarget
from include.config import Settings
from include.platform.processes import end_processes
from include.platform.service import Service
from include.platform.supervisor import Supervisor
from tests.support.kubernetes_api import cluster
from tests.support.kubernetes_cluster import VARIABLE, cluster_pool
from tests.support.pools import PoolUnderTest
from tests.support.services import free_settings
from tests.support.waiting import wait_for

SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), exit(0))); time.sleep(600)"


def in_memory() -> PoolUnderTest:
    driver = MemoryDriver("std")

    def settle() -> None:
        for name in driver.observe().starting:
            driver.started(name)
        for name in driver.observe().draining:
            driver.gone(name)

    return PoolUnderTest(driver=driver, settle=settle, chooses=True)


def sleepers(settings: Settings) -> list[Service]:
    """Workers that do nothing but drain when told to."""
    command = (sys.executable, "-c", SLEEPER)
    return [Service(name=f"worker-{number}", command=command, check=lambda: None) for number in range(settings.worker_count)]


@contextmanager
def under_supervisord(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolUnderTest]:
    monkeypatch.setattr(local, "worker_services", sleepers)
    monkeypatch.setattr(local, "local_services", sleepers)
    settings = free_settings(home, worker_count=1)
    supervisor = Supervisor(settings)
    supervisor.start(sleepers(settings))
    driver = local.LocalDriver(settings, most=4)

    def settle() -> None:
        wait_for(lambda: not driver.observe().starting and not driver.observe().draining, 40, "nobody starts or drains")

    try:
        yield PoolUnderTest(driver=driver, settle=settle, chooses=True)
    finally:
        supervisor.shutdown()
        end_processes(settings.home, grace_s=0)


@contextmanager
def in_kubernetes(kind: str) -> Iterator[PoolUnderTest]:
    with cluster(resource=f"{kind}s") as double:
        double.lags = True
        api = client.ApiClient(client.Configuration(host=double.url))
        driver = KubernetesDriver(KubernetesTarget(namespace="atelier", workload=f"{kind}/worker"), api)
        yield PoolUnderTest(driver=driver, settle=double.settle, chooses=kind == "deployment")
        api.close()


@contextmanager
def in_real_kubernetes(kind: str) -> Iterator[PoolUnderTest]:
    if not (kubeconfig := os.environ.get(VARIABLE)):
        pytest.skip(f"{VARIABLE} names no kubeconfig of a Kubernetes API server")
    with cluster_pool(kubeconfig, kind) as found:
        driver = KubernetesDriver(found.target, found.driver_api)
        yield PoolUnderTest(driver=driver, settle=found.settle, chooses=kind == "deployment")


@pytest.fixture(params=["memory", "local", "deployment", "statefulset", "real deployment", "real statefulset"])
def pool(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolUnderTest]:
    if request.param == "memory":
        yield in_memory()
        return
    *real, kind = request.param.split()
    if kind == "local":
        made = under_supervisord(tmp_path / "home", monkeypatch)
    else:
        made = in_real_kubernetes(kind) if real else in_kubernetes(kind)
    with made as found:
        yield found


def test_a_pool_grows_shrinks_and_goes_to_zero_and_back(pool: PoolUnderTest) -> None:
    driver = pool.driver
    assert driver.observe().counts().total == 0
    driver.scale_to(3)
    before = driver.observe()
    assert len(before.starting) + len(before.running) == 3
    pool.settle()
    three = driver.observe().running
    assert len(three) == len(set(three)) == 3

    driver.scale_to(3)  # the same wish again
    assert driver.observe().running == three

    driver.scale_to(2, leaving=(three[0],))
    shrinking = driver.observe()
    assert shrinking.counts().total == 2, "who drains is not counted"
    pool.settle()
    left = driver.observe()
    assert set(left.running) < set(three) and not left.draining
    if pool.chooses:
        assert three[0] not in left.running

    driver.scale_to(0)
    assert driver.observe().counts().total == 0
    pool.settle()
    assert driver.observe().counts().draining == 0
    driver.scale_to(1)
    pool.settle()
    assert len(driver.observe().running) == 1


def test_a_name_that_is_not_there_is_no_reason_to_lose_another(pool: PoolUnderTest) -> None:
    pool.driver.scale_to(2)
    pool.settle()
    pool.driver.scale_to(1, leaving=("nobody",))
    pool.settle()
    assert len(pool.driver.observe().running) == 1


def test_a_negative_count_is_refused(pool: PoolUnderTest) -> None:
    with pytest.raises(ValueError, match="can't have -1 workers"):
        pool.driver.scale_to(-1)
