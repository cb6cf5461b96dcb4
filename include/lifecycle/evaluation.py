"""The step of ``evaluate_model``: fetch the version as a worker does, measure it, record what was measured where people look."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from pydantic import BaseModel, ConfigDict

from include.config import Settings
from include.dataset.versions import DatasetVersion
from include.evaluation.evaluate import EvaluationConfig, EvaluationReport, evaluate_pipeline
from include.lifecycle.datasets import dataset_root, resolve
from include.lifecycle.tracking import client_of, close_run, log_dataset, open_run
from include.lifecycle.training import run_directory
from include.lifecycle.versions import FACTS_TAG, METRIC_TAG, newest_version, set_tags
from include.registry.aliases import version_ref
from include.registry.client import RegistryClient
from include.registry.fetch import ModelFetcher

EXPERIMENT = "evaluation"


class Evaluated(BaseModel):
    """What was measured on which version."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    metrics: dict[str, float]
    grid: str  #: path of a PNG
    mlflow_run_id: str


def evaluate_version(settings: Settings, params: Mapping[str, Any], key: str, progress: Callable[[str], None] = print) -> Evaluated:
    """Measures a version and tags it with the results.

    Raises :class:`LookupError` where there is no such version or dataset.
    """
    model = params["model"]
    with RegistryClient(settings.mlflow) as client:
        version = params["version"] or newest_version(client, model)
    found = version_ref(model, version, uri=settings.mlflow)
    dataset = resolve(dataset_root(settings), params["dataset_version"] or found.tags.get("atelier.dataset_version", ""))
    progress(f"evaluating version {version} of {model} on {dataset.version}")
    directory = ModelFetcher(settings.home.resolve() / "cache" / "models", settings.mlflow).fetch(found.ref)
    config = EvaluationConfig(prompts=params["prompts"], steps=params["steps"], seed=params["seed"], threads=params["threads"])
    report = evaluate_pipeline(directory, dataset.manifest, run_directory(settings, key), config, progress)
    metrics = {**report.metrics, "size_mb": size_mb(directory)}
    run_id = _log(client_of(settings), model, version, key, dataset, report, metrics)
    _tag(settings, model, version, metrics, {"run_id": run_id, "dataset_version": dataset.version, **report.facts})
    return Evaluated(model=model, version=version, metrics=metrics, grid=report.grid, mlflow_run_id=run_id)


def size_mb(directory: Path) -> float:
    """Size of a version's files in 10^6 bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def _log(
    client: MlflowClient, model: str, version: str, key: str, dataset: DatasetVersion, report: EvaluationReport, metrics: dict[str, float]
) -> str:
    run_id = open_run(client, EXPERIMENT, key, f"{model} {version}", {"atelier.model": model, "atelier.version": version})
    log_dataset(client, run_id, dataset, "evaluation")
    for name, value in metrics.items():
        client.log_metric(run_id, name, value)
    for path in (report.grid, report.path):
        client.log_artifact(run_id, path)
    close_run(client, run_id)
    return run_id


def _tag(settings: Settings, model: str, version: str, metrics: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    measured = {f"{METRIC_TAG}{name}": f"{value:.6g}" for name, value in metrics.items()}
    with RegistryClient(settings.mlflow) as client:
        set_tags(client, model, version, {**measured, FACTS_TAG: json.dumps(facts)})
