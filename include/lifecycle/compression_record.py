"""What a sweep found, where people and workers look: runs of MLflow, a tag of the version, versions of what may be served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from include.config import Settings
from include.evaluation.model_card import SUMMARY_TAG
from include.lifecycle.compression_report import ReportFiles
from include.lifecycle.compression_verdicts import Judged, offered
from include.lifecycle.tracking import client_of, close_run, open_run
from include.registry.client import RegistryClient
from include.registry.publish import register_version
from include.registry.tags import DATASET_DIGEST
from models.backends.known import BACKENDS
from models.compression.directories import PIPELINE
from models.compression.kinds import KINDS
from models.compression.plan import Row, SweepPlan

EXPERIMENT = "compression"
COMPRESSED_FROM = "atelier.compressed_from"  #: on a version: MODEL/VERSION whose weights it has, compressed
VARIANT = "atelier.variant"  #: on the same: which variant it is


def log_sweep(settings: Settings, plan: SweepPlan, found: Sequence[Judged], files: ReportFiles, key: str) -> str:
    """The sweep's run, with one of its own for each variant. A repeated task goes on in the runs that it had made."""
    client = client_of(settings)
    model, _, version = plan.original.label.partition("/")
    run_id = open_run(client, EXPERIMENT, key, f"{model} {version}", {"atelier.model": model, "atelier.version": version})
    if not client.get_run(run_id).data.params:
        _log_settings(client, run_id, plan)
    client.log_metric(run_id, "offered", len(offered(found)))
    for path in files:
        client.log_artifact(run_id, str(path))
    for each in found:
        close_run(client, _log_variant(client, run_id, each, key), failed=each.figures is None)
    close_run(client, run_id)
    return run_id


def _log_settings(client: MlflowClient, run_id: str, plan: SweepPlan) -> None:
    for name, value in plan.measurement.model_dump(exclude={"prompts"}).items():
        client.log_param(run_id, name, value)


def _log_variant(client: MlflowClient, parent: str, judged: Judged, key: str) -> str:
    tags = {"mlflow.parentRunId": parent, VARIANT: judged.variant}
    run_id = open_run(client, EXPERIMENT, f"{key}/{judged.variant}", judged.variant, tags)
    client.set_tag(run_id, "atelier.verdict", judged.verdict[:5000])
    for found in (judged.figures, judged.quality):
        values = found.model_dump() if found is not None else {}
        for name, value in values.items():
            if isinstance(value, int | float):
                client.log_metric(run_id, name, value)
    return run_id


def tag_version(settings: Settings, plan: SweepPlan, found: Sequence[Judged], run_id: str) -> dict[str, Any]:
    """Puts the summary on the version, and returns it.

    ``backend`` is what a worker would best run the version's own weights on, of the backends that it has; None: nothing was better than
    torch-eager.
    """
    model, _, version = plan.original.label.partition("/")
    fit = offered(found)
    backends = [
        each.figures.backend for each in fit if each.figures and KINDS[each.variant].same_images and each.figures.backend in BACKENDS
    ]
    summary = {
        "model": model,
        "version": version,
        "best": fit[0].variant if fit else None,
        "backend": backends[0] if backends else None,
        "offered": [each.variant for each in fit],
        "machine": plan.measurement.machine,
        "size": f"{plan.measurement.width}x{plan.measurement.height}",
        "run_id": run_id,
    }
    with RegistryClient(settings.mlflow) as client:
        client.set_version_tag(model, version, SUMMARY_TAG, json.dumps(summary))
    return summary


def register(settings: Settings, plan: SweepPlan, found: Sequence[Judged], rows: Sequence[Row], key: str) -> list[str]:
    """Registers the offered variants that any worker can load as they are, each as a version of MODEL-VARIANT; returns their names."""
    built = {row.variant: row.built for row in rows}
    wanted = [each for each in offered(found) if KINDS[each.variant].servable]
    return [_register(settings, plan, each, built[each.variant], key) for each in wanted]


def _register(settings: Settings, plan: SweepPlan, judged: Judged, built: Path | None, key: str) -> str:
    if built is None:
        raise LookupError(f"{judged.variant} has no directory to register")
    client = client_of(settings)
    model, _, version = plan.original.label.partition("/")
    with RegistryClient(settings.mlflow) as registry:
        digest = registry.version(model, version).tags.get(DATASET_DIGEST, "")
    lineage = {COMPRESSED_FROM: plan.original.label, VARIANT: judged.variant, DATASET_DIGEST: digest}
    run_id = open_run(client, EXPERIMENT, f"{key}/{judged.variant}", judged.variant)
    ref = register_version(
        built / PIPELINE,
        model_name=f"{model}-{judged.variant}",
        run_id=run_id,
        defaults=plan.original.defaults,
        tags={name: value for name, value in lineage.items() if value},
        uri=settings.mlflow,
    )
    close_run(client, run_id)
    return ref.key
