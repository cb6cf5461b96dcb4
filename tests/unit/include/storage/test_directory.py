"""A directory that can't do its work now."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.storage.base import StoreUnavailable
from include.storage.directory import PARTS, DirectoryStore


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_object_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with files_limited_to(100), pytest.raises(StoreUnavailable, match=r"can't store big\.bin .*space and permissions"):
        store.put_if_absent("big.bin", b"x" * 4096, "application/octet-stream")
    assert store.head("big.bin") is None
    assert list((tmp_path / PARTS).iterdir()) == []
    assert store.put_if_absent("big.bin", b"x" * 4096, "application/octet-stream").created


def test_a_full_disk_at_sync_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = DirectoryStore(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="No space left"):
        patch.setattr(os, "fsync", full)
        store.put_if_absent("a/b.png", b"x", "image/png")
    assert list(store.list()) == []
    assert list((tmp_path / PARTS).iterdir()) == []


def test_a_root_that_is_no_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(StoreUnavailable, match="ATELIER_STORE_URL"):
        DirectoryStore(tmp_path / "root").put_if_absent("a.png", b"x", "image/png")


def test_unfinished_files_are_no_objects(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put_if_absent("a.png", b"x", "image/png")
    (tmp_path / PARTS / "left-by-a-crash").write_bytes(b"half")
    assert list(store.list()) == ["a.png"]
