"""The local profile: every service of it, in the order in which ``atelier status`` lists them."""

from __future__ import annotations

import sys

from include.config import Settings
from include.platform.airflow import airflow_services, credentials
from include.platform.environment import ONE_THREAD
from include.platform.flink import jobmanager_service, taskmanager_service
from include.platform.heartbeats import worker_check
from include.platform.http import probe
from include.platform.kafka import kafka_service
from include.platform.mlflow import mlflow_service
from include.platform.router import router_service
from include.platform.service import Service, Unhealthy
from include.platform.store import store_service
from include.platform.supervisor import Supervisor


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)


def worker_services(settings: Settings) -> list[Service]:
    check = worker_check(settings)

    def service(worker_id: str) -> Service:
        return Service(
            name=worker_id,
            command=_module(
                "include.worker", "--pool", settings.worker_pool, "--worker-id", worker_id, "--backend", settings.worker_backend
            ),
            env=ONE_THREAD,
            depends_on=("kafka", "store"),
            check=lambda: check(worker_id),
            stop_s=30,
        )

    return [service(f"worker-{index}") for index in range(settings.worker_count)]


def watcher_service(settings: Settings) -> Service:
    """It serves nobody and listens nowhere: that its process stays up is all there is to see from outside."""
    name = "registry-watcher"

    def check() -> None:
        try:
            state = Supervisor(settings).info()[name].state
        except (OSError, KeyError) as error:
            raise Unhealthy("no supervisor knows its process") from error
        if state != "RUNNING":
            raise Unhealthy(f"process is {state.lower()}")

    return Service(
        name=name,
        command=_module("include.registry.watcher"),
        env=ONE_THREAD,
        depends_on=("kafka", "mlflow"),
        check=check,
        notes=lambda: leftover_notes(settings),
    )


def leftover_notes(settings: Settings) -> list[str]:
    """What to do about canaries that nobody judges."""
    from include.lifecycle.airflow_api import AirflowApi, RunState
    from include.lifecycle.leftover_canaries import DAG, leftover_canaries
    from include.registry.client import RegistryClient

    def state_of(run: str) -> RunState:
        with AirflowApi(settings.airflow, *credentials(settings), timeout_s=5) as airflow:
            return airflow.state(DAG, run)

    with RegistryClient(settings.mlflow, timeout_s=5) as registry:
        return list(leftover_canaries(registry, state_of))


def gateway_service(settings: Settings) -> Service:
    def check() -> None:
        probe(f"{settings.gateway}/healthz")

    return Service(
        name="gateway", command=_module("include.gateway"), env=ONE_THREAD, depends_on=("kafka", "store"), check=check, url=settings.gateway
    )


def local_services(settings: Settings) -> list[Service]:
    return [
        kafka_service(settings),
        store_service(settings),
        mlflow_service(settings),
        jobmanager_service(settings),
        taskmanager_service(settings),
        router_service(settings, _module("include.platform.router")),
        watcher_service(settings),
        *worker_services(settings),
        gateway_service(settings),
        *airflow_services(settings),
    ]
