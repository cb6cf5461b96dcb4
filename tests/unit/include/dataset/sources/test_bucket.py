"""A bucket is a source like a folder: a real S3 server with everything that people bring."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from include.config import Settings
from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.sources import FolderSource
from include.dataset.trees import PlaceUnavailableError
from tests.support.s3 import BUCKET, S3Server
from tests.unit.include.dataset.conftest import encoded, picture, publish

Config = Callable[..., DatasetConfig]


@pytest.fixture
def place(s3_server: S3Server, platform_settings: Settings, folder: Path, tmp_path: Path) -> str:
    """The folder with a JSON, a table and a tar beside its images, copied to a prefix of its own."""
    (folder / "0.json").write_text(json.dumps({"caption": "told by JSON", "author": "Ann"}))
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "caption", "license"], ["1.png", "told by a table", "CC0"]])
    with tarfile.open(folder / "more.tar", "w") as tar:
        for name, data in (("a.png", encoded(picture(20))), ("a.txt", b"told in a tar"), ("b.png", encoded(picture(21))), ("b.txt", b"b")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return s3_server.upload(folder, f"source/{tmp_path.name}")


def test_it_gives_the_items_of_the_folder_and_the_version_of_the_folder(place: str, folder: Path, config: Config, tmp_path: Path) -> None:
    there, here = (list(FolderSource(one).items()) for one in (place, str(folder)))
    assert [(item.key, item.captions, item.license, item.author) for item in there] == [
        (item.key, item.captions, item.license, item.author) for item in here
    ]
    assert {item.key for item in there} >= {"0.png", "more.tar/a.png"}
    assert publish(config(path=place), tmp_path / "there").digest == publish(config(), tmp_path / "here").digest


def test_only_what_changed_in_it_is_prepared_again(place: str, config: Config, s3_server: S3Server, tmp_path: Path) -> None:
    publish(config(path=place), tmp_path / "root")
    assert sum(plan.count for plan in plan_shards(config(path=place), tmp_path / "root")) == 0
    key = f"{place.removeprefix(f's3://{BUCKET}/')}/3.png"
    s3_server.client().put_object(Bucket=BUCKET, Key=key, Body=encoded(picture(40)))
    assert sum(plan.count for plan in plan_shards(config(path=place), tmp_path / "root")) == 1


def test_an_object_that_vanishes_after_the_listing_is_quarantined(place: str, config: Config, s3_server: S3Server, tmp_path: Path) -> None:
    plans = plan_shards(config(path=place), tmp_path / "root")
    s3_server.client().delete_object(Bucket=BUCKET, Key=f"{place.removeprefix(f's3://{BUCKET}/')}/3.png")
    results = [prepare_shard(plan) for plan in plans]
    assert [result.rejected for result in results if result.rejected] == [{"read": 1}]


def test_a_bucket_that_is_not_there_is_an_error_that_says_what_to_check(platform_settings: Settings) -> None:
    with pytest.raises(PlaceUnavailableError, match=r"can't list s3://nowhere/x: .*check the bucket's name, ATELIER_S3_ENDPOINT"):
        list(FolderSource("s3://nowhere/x").items())


def test_a_prefix_without_images_is_an_error(platform_settings: Settings, config: Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no images found in s3://{BUCKET}/empty"):
        plan_shards(config(path=f"s3://{BUCKET}/empty"), tmp_path)
