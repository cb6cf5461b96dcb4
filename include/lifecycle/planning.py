"""The step of ``train_model`` before the trainer: which dataset, which configuration, an MLflow run to log to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.config import Settings
from include.lifecycle.datasets import dataset_root, resolve
from include.lifecycle.tracking import client_of, log_dataset, open_run
from include.lifecycle.training import TrainingPlan, find_config, run_directory

EXPERIMENT = "training"


def plan_training(settings: Settings, params: Mapping[str, Any], run_id: str) -> TrainingPlan:
    """Resolves the dataset and opens the MLflow run.

    Raises :class:`LookupError` where there is no such dataset version or configuration.
    """
    config = find_config(settings, params["config"])
    version = resolve(dataset_root(settings), params["dataset_version"])
    client = client_of(settings)
    tags = {"atelier.dataset_version": version.version, "atelier.model": params["model"]}
    mlflow_run = open_run(client, EXPERIMENT, run_id, f"{params['model']} on {version.version}", tags)
    log_dataset(client, mlflow_run, version, "training")
    chosen = {name: params[name] for name in ("init", "max_steps", "seed", "learning_rate")}
    return TrainingPlan(
        directory=run_directory(settings, run_id),
        config=config,
        manifest=version.manifest,
        dataset_version=version.version,
        mlflow_run_id=mlflow_run,
        **chosen,
    )
