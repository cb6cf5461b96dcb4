"""A server that is not there."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from include.platform.ports import free_ports
from include.storage.base import InvalidKeyError, StoreUnavailable
from include.storage.s3 import S3Store


@pytest.fixture
def nowhere() -> S3Store:
    return S3Store(
        "bucket",
        "prefix",
        endpoint=f"http://127.0.0.1:{free_ports(1)[0]}",
        access_key=SecretStr("a"),
        secret_key=SecretStr("b"),
        timeout_s=1,
    )


def test_every_call_says_that_the_store_is_away(nowhere: S3Store) -> None:
    for call in (
        lambda: nowhere.put_if_absent("a.png", b"x", "image/png"),
        lambda: nowhere.get("a.png"),
        lambda: nowhere.head("a.png"),
        lambda: list(nowhere.list()),
        lambda: nowhere.delete("a.png"),
    ):
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/prefix/.* at http://127\.0\.0\.1"):
            call()


def test_the_prefix_is_checked() -> None:
    with pytest.raises(InvalidKeyError):
        S3Store("bucket", "a/../b")
