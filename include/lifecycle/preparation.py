"""The steps of ``prepare_dataset``: plan, one shard after another, publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from include.config import Settings
from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards
from include.dataset.versions import DatasetVersion, publish_version
from include.lifecycle.datasets import dataset_root, point_to
from include.registry.tags import DATASET_VERSION

EXPERIMENT = "datasets"
#: Fields that a form has as one text, with commas between the entries.
LISTS = ("licenses", "caption_templates", "against")


def dataset_config(params: Mapping[str, Any]) -> DatasetConfig:
    """The configuration that a form's fields stand for. Raises :class:`ValueError` that names the field and what it takes."""
    fields = {name: params[name] for name in DatasetConfig.model_fields if name in params}
    fields["path"] = params.get("path") or None
    for name in LISTS:
        if isinstance(fields.get(name), str):
            fields[name] = tuple(part.strip() for part in fields[name].split(",") if part.strip())
    try:
        return DatasetConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'params'}: {first['msg']}") from error


def plan(settings: Settings, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards to prepare, plain enough to be handed on."""
    return [asdict(shard) for shard in plan_shards(dataset_config(params), dataset_root(settings))]


def publish(settings: Settings, results: Sequence[Mapping[str, Any]]) -> DatasetVersion:
    """Publishes the version and makes it the newest."""
    root = dataset_root(settings)
    version = publish_version([dict(result) for result in results], root)
    point_to(version, root)
    return version


def log_version(settings: Settings, version: DatasetVersion, key: str) -> str:
    """Shows the version in MLflow: a run with counts, report and the dataset itself. Returns the run's id."""
    from include.lifecycle.tracking import client_of, close_run, log_dataset, log_dataset_report, open_run

    client = client_of(settings)
    run_id = open_run(client, EXPERIMENT, key, version.version, {DATASET_VERSION: version.version})
    log_dataset(client, run_id, version, "preparation")
    log_dataset_report(client, run_id, version)
    close_run(client, run_id)
    return run_id


def facts(version: DatasetVersion, mlflow_run_id: str) -> dict[str, Any]:
    """What a run hands on about the version it published."""
    names = ("version", "digest", "manifest", "report", "counts")
    return {**{name: getattr(version, name) for name in names}, "mlflow_run_id": mlflow_run_id}
