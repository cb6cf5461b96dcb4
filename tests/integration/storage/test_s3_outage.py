"""An S3 server that goes away and comes back; a bucket and credentials that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from include.config import Settings
from include.storage import StoreUnavailable, open_store
from tests.support.s3 import S3Server, s3_server_at


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server_at(tmp_path / "s3") as running:
        yield running


def test_calls_fail_clearly_while_it_is_down_and_work_when_it_is_back(server: S3Server, tmp_path: Path) -> None:
    store = open_store(server.settings(Settings(_env_file=None, home=tmp_path)))
    assert store.put_if_absent("a.png", b"before", "image/png").created
    server.stop()
    with pytest.raises(StoreUnavailable, match=server.endpoint):
        store.get("a.png")
    server.start()
    assert store.get("a.png") == b"before"
    assert not store.put_if_absent("a.png", b"after", "image/png").created


def test_a_missing_bucket_and_wrong_credentials_name_the_fix(server: S3Server, tmp_path: Path) -> None:
    settings = server.settings(Settings(_env_file=None, home=tmp_path))
    with pytest.raises(StoreUnavailable, match="create the bucket nowhere"):
        open_store(settings.model_copy(update={"store_url": "s3://nowhere/x"})).put_if_absent("a.png", b"x", "image/png")
    with pytest.raises(StoreUnavailable, match="ATELIER_S3_SECRET_KEY"):
        open_store(settings.model_copy(update={"s3_secret_key": SecretStr("wrong")})).put_if_absent("a.png", b"x", "image/png")
