"""From a directory to a version in the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.config import settings
from include.contracts.control import ModelDefaults
from include.contracts.dispatch import ModelRef
from include.registry.client import RegistryClient
from include.registry.errors import RegistryError
from include.registry.files import LIST_NAME, FileList, list_files
from include.registry.tags import DEFAULTS, DIGEST, SERVE, servable

ARTIFACT_PATH = "model"


def register_version(
    directory: Path,
    *,
    model_name: str,
    run_id: str,
    defaults: ModelDefaults,
    tags: Mapping[str, str] | None = None,
    artifact_path: str = ARTIFACT_PATH,
    uri: str | None = None,
) -> ModelRef:
    """Log the directory as artifacts of the run and register it as a version of ``model_name``.

    Repeating the call after a crash, or for the same files of the same run, gives the version that is there already.

    :param tags: more tags for the version, such as ``atelier.dataset_digest``
    :param artifact_path: where in the run the files go; a run that registers several directories gives each its own
    :raises ModelRejectedError: where a file is a link, a pickle or of another kind that models may not hold
    """
    files = list_files(directory)
    uri = uri or settings().mlflow
    source = _log_files(directory, files, run_id, artifact_path, uri)
    with RegistryClient(uri) as client:
        _ensure_model(client, model_name)
        known = [one for one in client.versions(model_name) if one.run_id == run_id and one.tags.get(DIGEST) == files.digest]
        if known:
            return servable(known[0]).ref
        marks = {**(tags or {}), DIGEST: files.digest, DEFAULTS: defaults.model_dump_json()}
        made = _create_version(client, model_name, source, run_id, marks)
        return servable(client.version(model_name, made)).ref


def _log_files(directory: Path, files: FileList, run_id: str, artifact_path: str, uri: str) -> str:
    import mlflow  # seconds to import, and only registration needs it

    client = mlflow.MlflowClient(tracking_uri=uri)
    client.log_artifacts(run_id, str(directory), artifact_path)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LIST_NAME).write_bytes(files.to_json())
        client.log_artifact(run_id, f"{folder}/{LIST_NAME}", artifact_path)
    return f"{client.get_run(run_id).info.artifact_uri}/{artifact_path}"


def _ensure_model(client: RegistryClient, name: str) -> None:
    try:
        client.call("POST", "registered-models/create", json={"name": name, "tags": [{"key": SERVE, "value": "true"}]})
    except RegistryError as error:
        if "already exists" not in str(error):
            raise


def _create_version(client: RegistryClient, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> str:
    body: dict[str, Any] = {
        "name": name,
        "source": source,
        "run_id": run_id,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return str(client.call("POST", "model-versions/create", json=body)["model_version"]["version"])
