"""Preparing a folder's images without Airflow: configuration from a form, publication, the pointer to the newest version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.config import Settings
from include.dataset.shards import prepare_shard
from include.dataset.versions import DatasetVersion
from include.lifecycle.datasets import dataset_of, dataset_root, resolve, version_at, versions
from include.lifecycle.preparation import dataset_config, plan, publish
from include.registry.tags import DATASET_AT, DATASET_VERSION
from models.training.samples import load_split
from tests.support.s3 import BUCKET, S3Server


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


@pytest.fixture
def elsewhere(settings: Settings, s3_server: S3Server, platform_settings: Settings, tmp_path: Path) -> tuple[str, DatasetVersion]:
    """A version of another installation in a bucket: its address and what it is."""
    version = published(settings.model_copy(update={"home": tmp_path / "other"}), folder(tmp_path / "one", ["red", "blue"]))
    return s3_server.upload(Path(version.manifest).parent, f"datasets/{tmp_path.name}/{version.version}"), version


def test_a_version_in_a_bucket_is_found_at_its_address(elsewhere: tuple[str, DatasetVersion]) -> None:
    address, version = elsewhere
    for place in (address, f"{address}/", f"{address}/manifest.json"):
        found = version_at(place)
        assert (found.version, found.counts, found.manifest) == (version.version, version.counts, f"{address}/manifest.json")


def test_a_version_in_a_folder_is_found_at_its_address(settings: Settings, tmp_path: Path) -> None:
    version = published(settings, folder(tmp_path / "one", ["red"]))
    assert dataset_of(Settings(_env_file=None, home=tmp_path / "empty"), str(Path(version.manifest).parent), {}) == version


def test_a_version_that_is_brought_is_whole_and_goes_by_its_name(settings: Settings, elsewhere: tuple[str, DatasetVersion]) -> None:
    address, version = elsewhere
    tags = {DATASET_VERSION: version.version, DATASET_AT: address}
    brought = dataset_of(settings, "", tags)
    root = dataset_root(settings)
    assert (brought.digest, Path(brought.manifest).parent) == (version.digest, root / version.version)
    assert load_split(brought.manifest, "train").keys == load_split(version.manifest, "train").keys
    assert {path.name for path in Path(brought.manifest).parent.iterdir()} == {
        path.name for path in Path(version.manifest).parent.iterdir()
    }
    assert versions(root) == [version.version]
    assert dataset_of(settings, "", tags) == dataset_of(settings, address, {}) == resolve(root, version.version)


def test_a_version_whose_file_was_changed_is_not_brought(
    settings: Settings, s3_server: S3Server, elsewhere: tuple[str, DatasetVersion]
) -> None:
    address, _ = elsewhere
    key = f"{address.removeprefix(f's3://{BUCKET}/')}/train-00000.parquet"
    s3_server.client().put_object(Bucket=BUCKET, Key=key, Body=b"other")
    with pytest.raises(ValueError, match=r"train-00000.parquet is not the file of the manifest"):
        dataset_of(settings, address, {})
    assert list(dataset_root(settings).iterdir()) == []


@pytest.mark.parametrize("name", ["../x.parquet", "/etc/passwd"])
def test_a_manifest_that_reaches_out_of_its_folder_is_refused(
    settings: Settings, s3_server: S3Server, elsewhere: tuple[str, DatasetVersion], name: str
) -> None:
    address, version = elsewhere
    manifest = json.loads(Path(version.manifest).read_text())
    manifest["files"]["train"][0]["file"] = name
    key = f"{address.removeprefix(f's3://{BUCKET}/')}/manifest.json"
    s3_server.client().put_object(Bucket=BUCKET, Key=key, Body=json.dumps(manifest).encode())
    with pytest.raises(ValueError, match="a version's files lie beside its manifest"):
        dataset_of(settings, address, {})


def test_an_address_without_a_version_says_so(platform_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "something else"}')
    for address in (f"s3://{BUCKET}/nothing/here", str(tmp_path), str(tmp_path / "gone"), "s3://"):
        with pytest.raises(LookupError, match=f"dataset_version: there is no prepared dataset at {address}"):
            version_at(address)
