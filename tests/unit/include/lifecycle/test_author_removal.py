"""An author is removed without MLflow or Airflow: what is affected, what is published, where the pointer goes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from include.config import Settings
from include.dataset.shards import prepare_shard
from include.dataset.versions import DatasetVersion
from include.lifecycle import author_removal, dataset_cli
from include.lifecycle.datasets import dataset_root, resolve
from include.lifecycle.preparation import plan, publish


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home", mlflow_uri="http://127.0.0.1:1")


@pytest.fixture
def version(settings: Settings, tmp_path: Path) -> DatasetVersion:
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for index in range(4):
        patches = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(patches).resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{index}.png")
        rows.append({"file_name": f"{index}.png", "text": f"picture {index}", "author": "Ann" if index == 0 else "Bob"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    params = {"source": "folder", "path": str(folder), "name": "pictures", "size": 32, "validation": 0.0}
    return publish(settings, [asdict(prepare_shard(shard, progress=lambda line: None)) for shard in plan(settings, params)])


def test_the_next_version_becomes_the_newest(settings: Settings, version: DatasetVersion) -> None:
    assert [(found.version, found.samples) for found in author_removal.affected_datasets(settings, "Ann")] == [(version.version, 1)]
    (made,) = author_removal.remove(settings, "Ann")
    assert made.counts["train"] == 3
    assert resolve(dataset_root(settings)).version == made.version


def test_an_author_that_nobody_credits_is_an_error(settings: Settings, version: DatasetVersion) -> None:
    with pytest.raises(LookupError, match="no dataset version credits 'Cy'"):
        author_removal.remove(settings, "Cy")


def test_the_command_says_what_is_affected_and_changes_nothing_without_yes(
    settings: Settings, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.config.settings", lambda: settings)
    shown = CliRunner().invoke(dataset_cli.dataset, ["remove-author", "Ann"])
    assert f"dataset {version.version}: 1 samples" in shown.output
    assert "nothing was changed" in shown.output
    assert resolve(dataset_root(settings)).version == version.version
    done = CliRunner().invoke(dataset_cli.dataset, ["remove-author", "Ann", "--yes"])
    assert "published pictures-" in done.output
    assert resolve(dataset_root(settings)).version in done.output
    assert "*" in CliRunner().invoke(dataset_cli.dataset, ["list"]).output
