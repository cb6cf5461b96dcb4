"""A real Airflow and a real MLflow with small training configurations; one whole lifecycle that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.config import Settings
from include.lifecycle.airflow_api import AirflowApi, DagRun
from include.platform.airflow import airflow_services, credentials
from tests.support.s3 import S3Server
from tests.support.services import running
from tests.support.waiting import wait_for

NETWORK = {"sample_size": 32, "patch_size": 4, "outer_dim": 32, "outer_depth": 1, "inner_dim": 64, "inner_depth": 1, "head_dim": 32}
TINY: dict[str, Any] = {
    "batch_size": 8,
    "max_steps": 4,
    "warmup_steps": 1,
    "validation_samples": 8,
    "log_every": 1,
    "checkpoint_every": 2,
    "validate_every": 100_000,
    "threads": 1,
    "network": {**NETWORK, "text_length": 8},
    "sample_prompts": ["red heart", "pizza"],
    "sample_steps": 2,
}
LONG = {**TINY, "max_steps": 120, "log_every": 5, "checkpoint_every": 10}
DATASET = {"limit": 60, "shard_size": 30, "validation": 0.3, "size": 32}
TRAINING = {"init": "scratch", "config": "tiny"}
EVALUATION = {"prompts": 8, "steps": 2, "threads": 1}


@dataclass(frozen=True)
class Lifecycle:
    """DAG runs through the scheduler, each waited for."""

    api: AirflowApi
    settings: Settings

    def run(self, dag_id: str, **conf: Any) -> DagRun:
        return self.api.wait(dag_id, self.api.trigger(dag_id, conf).run_id, timeout_s=240, poll_s=0.3)

    def result(self, run: DagRun, task_id: str) -> Any:
        return self.api.xcom(run.dag_id, run.run_id, task_id)


@pytest.fixture(scope="package")
def airflow(service_settings: Settings, s3_server: S3Server) -> Iterator[Settings]:
    """All four processes of Airflow over this repository's DAGs. They are never idle, so they end with this folder's tests."""
    reached = {name: value for name, value in s3_server.settings(service_settings) if name.startswith("s3_")}
    settings = service_settings.model_copy(update=reached)
    with running(settings, *airflow_services(settings)):
        yield settings


@pytest.fixture(scope="package")
def lifecycle(airflow: Settings, mlflow_server: str) -> Iterator[Lifecycle]:
    settings = airflow
    write_config(settings, "tiny", TINY)
    write_config(settings, "long", LONG)
    with AirflowApi(settings.airflow, *credentials(settings)) as api:
        wait_for(lambda: len(api.dag_ids()) >= 5, 120, "the DAGs to be parsed", interval=1.0)
        yield Lifecycle(api, settings)


@pytest.fixture(scope="package")
def dataset(lifecycle: Lifecycle) -> dict[str, Any]:
    """What ``prepare_dataset`` published."""
    return dict(lifecycle.result(lifecycle.run("prepare_dataset", **DATASET), "publish"))


@pytest.fixture(scope="package")
def version(lifecycle: Lifecycle, dataset: dict[str, Any]) -> dict[str, Any]:
    """A model version that was trained and evaluated."""
    made = lifecycle.result(lifecycle.run("train_model", dataset_version=dataset["version"], **TRAINING), "register")
    lifecycle.run("evaluate_model", version=made["version"], **EVALUATION)
    return dict(made)


def write_config(settings: Settings, name: str, content: dict[str, Any]) -> Path:
    path = settings.home.resolve() / "configs" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path
