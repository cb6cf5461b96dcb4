from __future__ import annotations

from pathlib import Path

import pytest

from include.config import Settings
from include.storage import StoreError, open_store
from include.storage.directory import DirectoryStore
from include.storage.s3 import S3Store


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)


def test_the_default_is_a_directory_at_home(tmp_path: Path) -> None:
    store = open_store(settings(home=tmp_path / "with space"))
    assert isinstance(store, DirectoryStore)
    assert store.root == tmp_path / "with space" / "objects"


def test_an_s3_address_has_bucket_and_prefix() -> None:
    store = open_store(settings(store_url="s3://bucket/some/prefix/", s3_endpoint="http://127.0.0.1:1"))
    assert isinstance(store, S3Store)
    assert store.url("a.png") == "s3://bucket/some/prefix/a.png"


@pytest.mark.parametrize("url", ["http://host/dir", "s3:///prefix", "file://host/dir", "file:///", "/plain/path"])
def test_other_addresses_are_refused_with_the_fix(url: str) -> None:
    with pytest.raises(StoreError, match="use file:///directory or s3://bucket/prefix"):
        open_store(settings(store_url=url))
