"""What may never be removed: what serves or served last, everything that was made from, and what running jobs work on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from include.config import Settings
from include.dataset.versions import MANIFEST
from include.lifecycle import jobs
from include.lifecycle.datasets import dataset_root, newest_name, versions
from include.lifecycle.tracking import KEY, client_of, every_run
from include.lifecycle.training import run_directory, runs_root
from include.lifecycle.versions import PROMOTION_TAG, ROLLBACK_TAG, facts_of
from include.registry.aliases import CHAMPION
from include.registry.client import ModelVersion, RegisteredModel, RegistryClient
from include.registry.ledger import AliasLedger
from include.registry.tags import DATASET_DIGEST, DATASET_VERSION, DIGEST
from models.training.samples import read_manifest

PARENTS = ("atelier.parent", "atelier.compressed_from")  #: tags that name, as MODEL/VERSION, what a version was made from
JOB_RUNS = "its job is running"  #: why a run's directory stays
Key = tuple[str, str]  #: model and version


@dataclass(kw_only=True)
class Needed:
    """Each with the reason to be shown; the first that was found counts."""

    versions: dict[Key, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  #: of those versions' files
    runs: dict[str, str] = field(default_factory=dict)  #: MLflow runs
    datasets: dict[str, str] = field(default_factory=dict)  #: by the version's name
    directories: dict[Path, str] = field(default_factory=dict)  #: of training and evaluation runs


def find_needed(settings: Settings) -> Needed:
    """Looks at the registry, the ledger, MLflow's runs and the jobs of this machine.

    Raises what MLflow's clients raise where it can't be reached: then nothing may be removed.
    """
    needed = Needed()
    client, root = client_of(settings), dataset_root(settings)
    digests = _names_by_digest(root)
    with RegistryClient(settings.mlflow) as registry:
        models = registry.models()
        every = {(model.name, version.version): version for model in models for version in registry.versions(model.name)}
        for key, why in _served(settings, models, every):
            _add_version(needed, key, why, every, digests)
    for run in every_run(client, "attributes.status = 'RUNNING'"):
        needed.runs.setdefault(run.info.run_id, "MLflow has the run as running; end it there if it is not")
    for run_id, why in list(needed.runs.items()):
        _add_run(needed, settings, client, run_id, why)
    for directory in _running_jobs(settings):
        needed.directories[directory] = JOB_RUNS
        _add(needed.datasets, _dataset_of_job(directory), f"the job in {directory.name} reads it")
    _add(needed.datasets, newest_name(root), "it is the newest, by the pointer")
    _close_datasets(needed, root)
    return needed


def _served(settings: Settings, models: list[RegisteredModel], every: Mapping[Key, ModelVersion]) -> Iterator[tuple[Key, str]]:
    """Versions that an alias names, and the champions before the champions."""
    ledger = AliasLedger(settings.home / "ledger" / "aliases.jsonl").current()
    for model in models:
        for alias, number in model.aliases.items():
            yield (model.name, number), f"{alias} of {model.name}"
        champion = every.get((model.name, model.aliases.get(CHAMPION, "")))
        moved = ledger.get((model.name, CHAMPION))
        before = [champion.tags.get(f"{prefix}from") for prefix in (PROMOTION_TAG, ROLLBACK_TAG)] if champion else []
        for number in filter(None, [*before, moved.from_version if moved else None]):
            yield (model.name, str(number)), f"champion of {model.name} before this one"


def _add_version(needed: Needed, key: Key, why: str, every: Mapping[Key, ModelVersion], names: Mapping[str, str]) -> None:
    """The version, what it was trained from, and so on up, each with its runs and datasets."""
    version = every.get(key)
    if version is None or key in needed.versions:
        return
    needed.versions[key] = why
    because = f"{key[0]}/{key[1]} came from it ({why})"
    facts = facts_of(version.tags)
    _add(needed.digests, version.tags.get(DIGEST), why)
    for run_id in (version.run_id, facts.get("run_id")):
        _add(needed.runs, run_id, because)
    told = (version.tags.get(DATASET_VERSION), names.get(version.tags.get(DATASET_DIGEST, "")), facts.get("dataset_version"))
    for dataset in told:
        _add(needed.datasets, dataset, because)
    for tag in PARENTS:
        model, _, number = version.tags.get(tag, "").rpartition("/")
        if model:
            _add_version(needed, (model, number), because, every, names)


def _add_run(needed: Needed, settings: Settings, client: MlflowClient, run_id: str, why: str) -> None:
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException:  # somebody deleted it for good
        return
    _add(needed.datasets, tags.get(DATASET_VERSION), why)
    if tags.get(KEY):
        needed.directories.setdefault(run_directory(settings, tags[KEY]), why)


def _running_jobs(settings: Settings) -> Iterator[Path]:
    for directory in runs_root(settings).glob("[!.]*"):
        if directory.is_dir() and jobs.state(directory) is jobs.JobState.RUNNING:
            yield directory


def _dataset_of_job(directory: Path) -> str:
    command = json.loads((directory / "job.json").read_text())["command"]
    manifests = [Path(word) for word in command if word.endswith(MANIFEST)]
    return manifests[0].parent.name if manifests else ""


def _names_by_digest(root: Path) -> dict[str, str]:
    return {read_manifest(root / name / MANIFEST)["digest"]: name for name in versions(root)}


def _close_datasets(needed: Needed, root: Path) -> None:
    """Adds the versions that needed ones were made from, or were kept apart from."""
    waiting = list(needed.datasets)
    while waiting:
        name = waiting.pop()
        manifest = root / name / MANIFEST
        if not manifest.is_file():
            continue
        content: dict[str, Any] = read_manifest(manifest)
        for other in (content.get("parent"), *content["config"].get("against", ())):
            if other and other not in needed.datasets:
                needed.datasets[other] = f"{name} was made from it ({needed.datasets[name]})"
                waiting.append(other)


def _add(found: dict[str, str], name: str | None, why: str) -> None:
    if name:
        found.setdefault(name, why)
