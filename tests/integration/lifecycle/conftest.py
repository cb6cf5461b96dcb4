"""An installation of the test's own beside a real MLflow: dataset versions, model versions and runs, as old as the test wants them."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from include.config import Settings
from include.lifecycle.datasets import dataset_root
from include.lifecycle.maintenance import topics as maintenance_topics
from include.lifecycle.maintenance.limits import Limits
from include.lifecycle.tracking import KEY, client_of
from include.platform.kafka import existing_topics
from include.registry.aliases import set_alias
from include.registry.client import RegistryClient
from tests.support.registry import register
from tests.support.tiny_dataset import write_tiny_dataset

DAY_S = 86_400.0
NO_BROKER = "127.0.0.1:1"
#: Everything goes that nobody needs, but artifacts: other tests share the MLflow server.
STRICT = Limits(
    grace_days=0, dataset_days=0, keep_datasets=0, checkpoint_days=0, run_days=0, artifact_days=None, version_days=0,
    archive_days=0, image_days=0, leftover_days=0, cache_days=0,
)  # fmt: skip


@dataclass(kw_only=True)
class Installation:
    settings: Settings
    model: str = field(default_factory=lambda: f"model-{uuid.uuid4().hex[:8]}")
    datasets: int = 0

    def dataset(self, name: str, parent: str = "", against: tuple[str, ...] = ()) -> str:
        """A version of a dataset of its own; its name."""
        self.datasets += 1
        manifest = write_tiny_dataset(dataset_root(self.settings) / f"{name}-1", {"train": self.datasets})
        content = json.loads(manifest.read_text())
        content |= {"name": name, "config": {"source": "folder", "against": list(against)}, **({"parent": parent} if parent else {})}
        manifest.write_text(json.dumps(content))
        return f"{name}-1"

    def version(self, dataset: str, **tags: str) -> str:
        """The number of a new model version, whose run has a directory under the name of the number."""
        folder = self.settings.home / "made" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(uuid.uuid4().bytes * 1000)
        marks = {"atelier.dataset_version": dataset, **{f"atelier.{name}": value for name, value in tags.items()}}
        ref = register(folder, self.model, self.settings.mlflow, marks)
        client = client_of(self.settings)
        run_id = client.get_model_version(self.model, ref.version).run_id
        client.set_tag(run_id, KEY, f"{self.model}-{ref.version}")
        client.set_terminated(run_id)
        self.run_directory(f"{self.model}-{ref.version}")
        return ref.version

    def run_directory(self, name: str) -> Path:
        path = self.settings.home.resolve() / "training" / name
        (path / "checkpoints" / "step-000001").mkdir(parents=True)
        (path / "checkpoints" / "step-000001" / "state.safetensors").write_bytes(b"x" * 1000)
        (path / "training.json").write_text("{}")
        return path

    def alias(self, alias: str, version: str) -> None:
        set_alias(self.model, alias, version, uri=self.settings.mlflow)


def aged(path: Path, days: float) -> None:
    """Makes everything below look so old."""
    then = time.time() - days * DAY_S
    for one in (path, *path.rglob("*")):
        os.utime(one, (then, then))


@pytest.fixture(autouse=True)
def quick_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits seconds for a broker that is not there, which every plan and every removal here would do."""

    def asked(settings: Settings) -> set[str]:
        return existing_topics(settings, timeout_s=0.05 if settings.bootstrap == NO_BROKER else 3.0)

    monkeypatch.setattr(maintenance_topics, "existing_topics", asked)


@pytest.fixture
def installation(tmp_path: Path, mlflow_server: str) -> Iterator[Installation]:
    """Its model is gone afterwards: it would keep equally named datasets of the next one, whose plans would look at it too."""
    # No broker is asked for: the plan says so and goes on.
    settings = Settings(_env_file=None, home=tmp_path / "home", mlflow_uri=mlflow_server, kafka_bootstrap=NO_BROKER)
    made = Installation(settings=settings)
    yield made
    with RegistryClient(mlflow_server) as client:
        there = made.model in {model.name for model in client.models()}
    if there:
        client_of(settings).delete_registered_model(made.model)
