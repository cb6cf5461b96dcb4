"""Model versions for tests, registered with a real MLflow server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from include.contracts.control import ModelDefaults
from include.contracts.dispatch import ModelRef
from include.registry.client import RegistryClient
from include.registry.publish import register_version

DEFAULTS = ModelDefaults(width=16, height=16, steps=4, guidance=2.0, step_s=0.01)


def new_run(uri: str) -> str:
    """The id of a new MLflow run."""
    with RegistryClient(uri) as client:
        return str(client.call("POST", "runs/create", json={"experiment_id": "0"})["run"]["info"]["run_id"])


def register(directory: Path, name: str, uri: str, tags: Mapping[str, str] | None = None) -> ModelRef:
    marks = {"atelier.dataset_digest": "d" * 64, **(tags or {})}
    return register_version(directory, model_name=name, run_id=new_run(uri), defaults=DEFAULTS, tags=marks, uri=uri)


def artifact_file(home: Path, ref: ModelRef, name: str) -> Path:
    """A file of a registered version on the server's disk, where a test may damage it."""
    return home / "mlflow" / "artifacts" / ref.source.removeprefix("mlflow-artifacts:").lstrip("/") / name
