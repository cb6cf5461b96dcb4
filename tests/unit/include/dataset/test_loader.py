"""The platform's own bucket, read with the endpoint and the keys of its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.dataset.config import DatasetConfig
from include.dataset.loader import SampleStream, platform_cache
from tests.support.s3 import S3Server
from tests.unit.include.dataset.conftest import publish


@pytest.mark.usefixtures("platform_settings")
def test_a_version_in_the_bucket_is_read_as_the_one_in_the_folder(
    s3_server: S3Server, config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    folder = publish(config(validation=0), tmp_path).manifest
    place = s3_server.upload(Path(folder).parent, "platform")
    there = SampleStream(f"{place}/manifest.json", cache=platform_cache(tmp_path / "cache"))
    assert [sample.key for sample in there.epoch(1)] == [sample.key for sample in SampleStream(folder).epoch(1)]
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == len(list(Path(folder).parent.glob("train-*")))
