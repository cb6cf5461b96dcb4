"""Preparing a folder's images without Airflow: configuration from a form, publication, the pointer to the newest version."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.config import Settings
from include.dataset.shards import prepare_shard
from include.dataset.versions import DatasetVersion
from include.lifecycle.datasets import dataset_root, resolve, versions
from include.lifecycle.preparation import dataset_config, plan, publish


def folder(path: Path, colours: list[str]) -> Path:
    path.mkdir()
    for colour in colours:
        Image.new("RGB", (32, 32), colour).save(path / f"{colour}.png")
        (path / f"{colour}.txt").write_text(f"a {colour} square")
    return path


def published(settings: Settings, path: Path, **params: Any) -> DatasetVersion:
    plans = plan(settings, {"source": "folder", "path": str(path), "name": "squares", "size": 32, "validation": 0.0, **params})
    return publish(settings, [asdict(prepare_shard(shard, progress=lambda line: None)) for shard in plans])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home")


def test_the_newest_version_is_the_last_published_and_older_ones_stay(settings: Settings, tmp_path: Path) -> None:
    first = published(settings, folder(tmp_path / "one", ["red", "blue"]))
    second = published(settings, folder(tmp_path / "two", ["red", "green"]))
    root = dataset_root(settings)
    assert first.version != second.version
    assert resolve(root).version == second.version
    assert resolve(root, first.version).digest == first.digest
    assert versions(root) == sorted([first.version, second.version])


def test_publishing_older_content_again_makes_it_the_newest(settings: Settings, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", ["red", "blue"])
    first = published(settings, one)
    published(settings, folder(tmp_path / "two", ["green"]))
    again = published(settings, one, shard_size=1)
    assert again.version == first.version
    assert resolve(dataset_root(settings)).version == first.version


def test_without_any_version_the_error_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(LookupError, match=r"dataset_version: .* run prepare_dataset first"):
        resolve(dataset_root(settings))


def test_an_unknown_version_names_those_there_are(settings: Settings, tmp_path: Path) -> None:
    version = published(settings, folder(tmp_path / "one", ["red"]))
    with pytest.raises(LookupError, match=f"no dataset version nope; there are: {version.version}"):
        resolve(dataset_root(settings), "nope")


@pytest.mark.parametrize("version", ["../elsewhere", "/etc", "a/../.."])
def test_a_version_that_leaves_the_folder_is_unknown(settings: Settings, version: str) -> None:
    with pytest.raises(LookupError, match="dataset_version"):
        resolve(dataset_root(settings), version)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"source": "folder"}, "give the folder"),
        ({"source": "openmoji", "size": 63}, "size: "),
        ({"source": "openmoji", "validation": 0.9}, "validation: "),
    ],
)
def test_a_form_that_makes_no_sense_names_the_field(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_config(params)


def test_a_form_may_have_more_fields_than_the_dataset(tmp_path: Path) -> None:
    assert dataset_config({"source": "openmoji", "path": "", "then_train": True}).path is None
