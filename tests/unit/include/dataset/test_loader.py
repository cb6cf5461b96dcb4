"""The platform's own bucket, read with the endpoint and the keys of its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.config import Settings
from include.dataset import trees
from include.dataset.config import DatasetConfig
from include.dataset.loader import SampleStream, platform_cache
from tests.support.s3 import S3Server
from tests.unit.include.dataset.conftest import publish


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    settings = s3_server.settings(Settings(_env_file=None, home=tmp_path))
    monkeypatch.setattr(trees, "settings", lambda: settings)
    trees._client.cache_clear()
    yield s3_server
    trees._client.cache_clear()


def test_a_version_in_the_bucket_is_read_as_the_one_in_the_folder(
    bucket: S3Server, config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    folder = publish(config(validation=0), tmp_path).manifest
    place = bucket.upload(Path(folder).parent, "platform")
    there = SampleStream(f"{place}/manifest.json", cache=platform_cache(tmp_path / "cache"))
    assert [sample.key for sample in there.epoch(1)] == [sample.key for sample in SampleStream(folder).epoch(1)]
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == len(list(Path(folder).parent.glob("train-*")))
