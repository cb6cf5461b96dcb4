"""Model versions as the lifecycle sees them: which is the newest, what was measured on it, how it came to serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from include.config import Settings
from include.registry.client import RegistryClient
from include.registry.tags import ServableVersion, servable

METRIC_TAG = "atelier.eval."  #: prefix of the tags that hold one measurement each
FACTS_TAG = "atelier.evaluation"  #: JSON: what the measurements were made on
PROMOTION_TAG = "atelier.promotion."  #: prefix: at, by, from, why
ROLLBACK_TAG = "atelier.rollback."  #: prefix: at, by, from, why
CANARY_TAG = "atelier.canary."  #: prefix: run, started_at, verdict, reasons, figures


def newest_version(client: RegistryClient, model: str) -> str:
    """Raises :class:`LookupError` where the model has no version."""
    versions = client.versions(model)
    if not versions:
        raise LookupError(f"version: the registered model {model} has no version; run train_model first")
    return versions[0].version


def version_or_newest(settings: Settings, model: str, version: str) -> ServableVersion:
    """The version, the newest where none is named. Raises as :func:`newest_version` and :func:`~include.registry.aliases.version_ref`."""
    with RegistryClient(settings.mlflow) as client:
        return servable(client.version(model, version or newest_version(client, model)))


def metrics_of(tags: Mapping[str, str]) -> dict[str, float]:
    """What evaluate_model measured; empty where it hasn't run."""
    return {name.removeprefix(METRIC_TAG): float(value) for name, value in tags.items() if name.startswith(METRIC_TAG)}


def facts_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """What the measurements were made on."""
    return dict(json.loads(tags.get(FACTS_TAG, "{}")))


def set_tags(client: RegistryClient, model: str, version: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        client.set_version_tag(model, version, name, value)
