"""The step of ``train_model`` before the trainer: which dataset, which configuration, an MLflow run to log to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.config import Settings
from include.lifecycle.datasets import dataset_root, is_address, resolve, version_at
from include.lifecycle.tracking import client_of, log_dataset, open_run
from include.lifecycle.training import ENCODED, TrainingPlan, find_config, run_directory
from include.registry.aliases import CHAMPION, get_alias, version_ref
from include.registry.fetch import ModelFetcher
from include.registry.tags import DATASET_VERSION
from models.training.config import load_config

EXPERIMENT = "training"


def plan_training(settings: Settings, params: Mapping[str, Any], run_id: str) -> TrainingPlan:
    """Resolves the dataset and opens the MLflow run.

    Raises :class:`LookupError` where there is no such dataset version, configuration or champion, :class:`ValueError` for a
    configuration that can't be trained by, and :class:`OSError` for a bucket that can't be reached.
    """
    config = find_config(settings, params["config"])
    if load_config(config).method == "lora" and params["then_evaluate"]:
        raise ValueError("then_evaluate: an adapter has no images of its own to evaluate; leave the box empty")
    asked = params["dataset_version"]
    version = version_at(asked) if is_address(asked) else resolve(dataset_root(settings), asked)
    client = client_of(settings)
    tags = {DATASET_VERSION: version.version, "atelier.model": params["model"]}
    mlflow_run = open_run(client, EXPERIMENT, run_id, f"{params['model']} on {version.version}", tags)
    log_dataset(client, mlflow_run, version, "training")
    directory = run_directory(settings, run_id)
    start, parent = _champion(settings, params["model"], directory) if params["init"] == "champion" else (None, "")
    chosen = {name: params[name] for name in ("model", "task", "init", "max_steps", "seed", "learning_rate")}
    return TrainingPlan(
        directory=directory,
        config=config,
        start=start,
        parent=parent,
        cache=settings.home.resolve() / ENCODED,
        manifest=version.manifest,
        dataset_version=version.version,
        dataset_at=asked if is_address(asked) else "",
        mlflow_run_id=mlflow_run,
        **chosen,
    )


def _champion(settings: Settings, model: str, directory: Path) -> tuple[Path, str]:
    """The champion's pipeline in a directory of the run's own, where nobody makes room for others, and the version's name."""
    version = get_alias(model, CHAMPION, uri=settings.mlflow)
    if version is None:
        raise LookupError(f"init: the registered model {model} has no champion to start from; promote a version, or start from base")
    found = version_ref(model, version, uri=settings.mlflow)
    return ModelFetcher(directory / "start", settings.mlflow, max_bytes=None).fetch(found.ref), f"{model}/{version}"
