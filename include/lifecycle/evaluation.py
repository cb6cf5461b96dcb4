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
from include.evaluation.model_card import PAGE, Measured, model_card, write_card
from include.lifecycle.datasets import dataset_of
from include.lifecycle.tracking import client_of, close_run, log_dataset, open_run
from include.lifecycle.training import run_directory
from include.lifecycle.versions import FACTS_TAG, METRIC_TAG, facts_of, metrics_of, set_tags, version_or_newest
from include.registry.aliases import CHAMPION, get_alias, version_ref
from include.registry.client import RegistryClient
from include.registry.fetch import ModelFetcher
from include.registry.tags import DATASET_VERSION, ServableVersion
from models.training.samples import read_manifest

EXPERIMENT = "evaluation"
CARD_TAG = "atelier.model_card"  #: where the version's model card is, as the run of its evaluation and the artifact's name


class Evaluated(BaseModel):
    """What was measured on which version."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    metrics: dict[str, float]
    grid: str  #: path of a PNG
    card: str  #: path of the model card, an HTML page
    mlflow_run_id: str


def evaluate_version(settings: Settings, params: Mapping[str, Any], key: str, progress: Callable[[str], None] = print) -> Evaluated:
    """Measures a version and tags it with the results.

    Raises :class:`LookupError` where there is no such version or dataset.
    """
    model = params["model"]
    found = version_or_newest(settings, model, params["version"])
    version = found.ref.version
    dataset = dataset_of(settings, params["dataset_version"], found.tags)
    progress(f"evaluating version {version} of {model} on {dataset.version}")
    trained_on = _trained_on(settings, found.tags, dataset, progress)
    fetcher = ModelFetcher(settings.home.resolve() / "cache" / "models", settings.mlflow)
    directory, champion = fetcher.fetch(found.ref), _champion(settings, model, version)
    rival = (champion.ref.version, fetcher.fetch(champion.ref)) if champion else None
    config = EvaluationConfig(
        prompts=params["prompts"], steps=params["steps"], seed=params["seed"], threads=params["threads"], network=params.get("network", "")
    )
    output = run_directory(settings, key)
    report = evaluate_pipeline(directory, dataset.manifest, output, config, progress, trained_on.manifest, rival)
    metrics = {**report.metrics, "size_mb": size_mb(directory)}
    manifest = read_manifest(trained_on.manifest)
    facts = {"dataset_version": dataset.version, "trained_on": trained_on.version, "licenses": manifest["licenses"], **report.facts}
    measured = Measured(version=version, metrics=metrics, facts=facts)
    card = model_card(model, measured, found.tags, manifest, _measured(champion) if champion else None)
    cards = write_card(card, report.grid, report.sheet, output)
    run_id = _log(client_of(settings), model, version, key, dataset, report, metrics, cards)
    _tag(settings, model, version, metrics, {"run_id": run_id, **facts})
    return Evaluated(model=model, version=version, metrics=metrics, grid=report.grid, card=str(output / PAGE), mlflow_run_id=run_id)


def _trained_on(settings: Settings, tags: Mapping[str, str], evaluated: DatasetVersion, progress: Callable[[str], None]) -> DatasetVersion:
    """The dataset version that the lineage names; the evaluated one where that is gone."""
    try:
        return dataset_of(settings, "", tags) if DATASET_VERSION in tags else evaluated
    except (LookupError, FileNotFoundError):
        progress(f"the version was trained on {tags[DATASET_VERSION]}, which is gone: leaks are looked for in {evaluated.version}")
        return evaluated


def _champion(settings: Settings, model: str, version: str) -> ServableVersion | None:
    """None where there is none, or where it is the version itself."""
    champion = get_alias(model, CHAMPION, uri=settings.mlflow)
    return None if champion in (None, version) else version_ref(model, champion, uri=settings.mlflow)


def _measured(version: ServableVersion) -> Measured | None:
    """None where it was not evaluated."""
    metrics = metrics_of(version.tags)
    return Measured(version=version.ref.version, metrics=metrics, facts=facts_of(version.tags)) if metrics else None


def size_mb(directory: Path) -> float:
    """Size of a version's files in 10^6 bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def _log(
    client: MlflowClient,
    model: str,
    version: str,
    key: str,
    dataset: DatasetVersion,
    report: EvaluationReport,
    metrics: dict[str, float],
    cards: list[Path],
) -> str:
    run_id = open_run(client, EXPERIMENT, key, f"{model} {version}", {"atelier.model": model, "atelier.version": version})
    log_dataset(client, run_id, dataset, "evaluation")
    for name, value in metrics.items():
        client.log_metric(run_id, name, value)
    for path in (report.grid, report.sheet, report.path, *map(str, cards)):
        client.log_artifact(run_id, path)
    close_run(client, run_id)
    return run_id


def _tag(settings: Settings, model: str, version: str, metrics: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    measured = {f"{METRIC_TAG}{name}": f"{value:.6g}" for name, value in metrics.items()}
    with RegistryClient(settings.mlflow) as client:
        set_tags(client, model, version, {**measured, FACTS_TAG: json.dumps(facts), CARD_TAG: f"runs:/{facts['run_id']}/{PAGE}"})
