"""MLflow: large artifacts of old runs, and registered versions that nobody names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.items import Item, Keeper, judged
from include.lifecycle.tracking import client_of, every_run
from include.registry.client import ModelVersion, RegistryClient
from include.registry.errors import UnknownModelError


@dataclass(frozen=True)
class Artifact:
    """A file, or a directory as a whole, right below a run's artifact root."""

    path: str
    bytes: int


class ArtifactKeeper(Keeper):
    """``RUN_ID/PATH``. What a registered version is made of stays for as long as the version is registered."""

    kind = "MLflow artifact"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = client_of(context.settings)

    def items(self) -> Iterator[Item]:
        registered = self._registered()
        for run in every_run(self.client):
            for artifact in self._artifacts(run.info.run_id):
                yield self._judged(run, artifact, registered)

    def item(self, name: str) -> Item | None:
        run_id, _, path = name.partition("/")
        try:
            run = self.client.get_run(run_id)
        except MlflowException:
            return None
        found = next((artifact for artifact in self._artifacts(run_id) if artifact.path == path), None)
        return self._judged(run, found, self._registered()) if found else None

    def remove(self, item: Item) -> None:
        run_id, _, path = item.name.partition("/")
        delete_artifacts(self.context.settings.mlflow, f"{self.client.get_run(run_id).info.artifact_uri}/{path}")

    def _judged(self, run: Run, artifact: Artifact, registered: dict[str, str]) -> Item:
        limits, name = self.context.limits, f"{run.info.run_id}/{artifact.path}"
        ended = (run.info.end_time or run.info.start_time) / 1000
        needed = registered.get(f"{run.info.artifact_uri}/{artifact.path}") or self.context.needed().runs.get(run.info.run_id, "")
        if not needed and artifact.bytes < limits.artifact_mb * 1e6:
            needed = f"smaller than {limits.artifact_mb:g} MB"
        return judged(limits, self.kind, name, artifact.bytes, max(0.0, time.time() - ended), limits.artifact_days, needed)

    def _artifacts(self, run_id: str) -> list[Artifact]:
        return [
            Artifact(found.path, size_below(self.client, run_id, found.path) if found.is_dir else int(found.file_size or 0))
            for found in self.client.list_artifacts(run_id)
        ]

    def _registered(self) -> dict[str, str]:
        """By the artifact's address."""
        return {version.source: f"files of {version.name}/{version.version}, which is registered" for version in _versions(self.context)}


class VersionKeeper(Keeper):
    """``MODEL/VERSION``, with the version's files."""

    kind = "model version"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = client_of(context.settings)

    def items(self) -> Iterator[Item]:
        yield from (self._judged(version) for version in _versions(self.context))

    def item(self, name: str) -> Item | None:
        model, _, number = name.rpartition("/")
        with RegistryClient(self.context.settings.mlflow) as client:
            try:
                version = client.version(model, number)
            except UnknownModelError:
                return None
        return self._judged(version)

    def remove(self, item: Item) -> None:
        """The version first, so that no alias can be moved to one without files; files left by a crash are an old run's artifact."""
        model, _, number = item.name.rpartition("/")
        uri = self.context.settings.mlflow
        with RegistryClient(uri) as client:
            source = client.version(model, number).source
            others = [one for one in _versions(self.context) if one.source == source and (one.name, one.version) != (model, number)]
            client.call("DELETE", "model-versions/delete", json={"name": model, "version": number})
        if not others:
            delete_artifacts(uri, source)

    def _judged(self, version: ModelVersion) -> Item:
        limits, name = self.context.limits, f"{version.name}/{version.version}"
        needed = self.context.needed().versions.get((version.name, version.version), "")
        made = self.client.get_model_version(version.name, version.version).creation_timestamp / 1000
        return judged(limits, self.kind, name, self._size(version), max(0.0, time.time() - made), limits.version_days, needed)

    def _size(self, version: ModelVersion) -> int:
        """0 where the run is gone."""
        try:
            root = self.client.get_run(version.run_id).info.artifact_uri
            return size_below(self.client, version.run_id, version.source.removeprefix(root).strip("/"))
        except MlflowException:
            return 0


def size_below(client: MlflowClient, run_id: str, path: str) -> int:
    found = client.list_artifacts(run_id, path)
    return sum(size_below(client, run_id, one.path) if one.is_dir else int(one.file_size or 0) for one in found)


def delete_artifacts(uri: str, address: str) -> None:
    """Deletes what the MLflow server at ``uri`` keeps at ``mlflow-artifacts:/…``. Raises :class:`ValueError` for other addresses."""
    source = urlsplit(address)
    steps = source.path.strip("/").split("/")
    if source.scheme != "mlflow-artifacts" or len(steps) < 3 or not all(steps) or not {".", ".."}.isdisjoint(steps):
        raise ValueError(f"{address!r} is not something that the MLflow server keeps and that may be deleted alone")
    answer = httpx.delete(f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{quote('/'.join(steps))}", timeout=60)
    if answer.status_code != httpx.codes.NOT_FOUND:
        answer.raise_for_status()


def _versions(context: Context) -> list[ModelVersion]:
    with RegistryClient(context.settings.mlflow) as client:
        return [version for model in client.models() for version in client.versions(model.name)]
