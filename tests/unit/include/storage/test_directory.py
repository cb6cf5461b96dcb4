"""A directory that can't do its work now."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.storage.base import ObjectInfo, StoreUnavailable
from include.storage.directory import ATTRIBUTE, PARTS, DirectoryStore


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


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_object_that_other_hands_changed_has_its_own_digest(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a.png", b"first", "image/png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.write(b"other")  # as long as before
        os.utime(file.fileno(), ns=(0, 12345))
    (tmp_path / "b.png").write_bytes(b"never put")
    assert [info and info.sha256 for info in map(store.head, ("a.png", "b.png"))] == [digest_of(b"other"), digest_of(b"never put")]


@pytest.mark.parametrize("error", [OSError(errno.ENOTSUP, "not supported"), AttributeError("no such call")])
def test_where_files_have_no_attributes_digests_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def unsupported(*_: object) -> None:
        raise error

    for name in ("setxattr", "getxattr"):
        monkeypatch.setattr(os, name, unsupported)
    store = DirectoryStore(tmp_path)
    assert store.put_if_absent("a.png", b"x", "image/png").created
    info = store.head("a.png")
    assert info is not None and (info.size, info.sha256) == (1, digest_of(b"x"))


@pytest.mark.parametrize("value", [b"", b"junk", b"\xff\xfe", b"0" * 64])
def test_a_broken_attribute_is_not_believed(tmp_path: Path, value: bytes) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a.png", b"x", "image/png")
    os.setxattr(tmp_path / "a.png", ATTRIBUTE, value)
    info = store.head("a.png")
    assert info is not None and info.sha256 == digest_of(b"x")


def test_a_key_that_is_deleted_while_it_is_put_is_put_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, head = DirectoryStore(tmp_path), DirectoryStore.head
    store.put("a.png", b"of another", "image/png")

    def head_too_late(self: DirectoryStore, key: str) -> ObjectInfo | None:
        self.delete(key)
        return head(self, key)

    monkeypatch.setattr(DirectoryStore, "head", head_too_late)
    assert store.put_if_absent("a.png", b"ours", "image/png").created
    assert store.get("a.png") == b"ours"


def test_an_object_that_rots_on_the_disk_is_not_given_out(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a.bin", b"as it was stored", "application/octet-stream")
    path = tmp_path / "a.bin"
    as_it_was = path.stat()
    with path.open("r+b") as file:
        file.write(b"AS")
    os.utime(path, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    with pytest.raises(StoreUnavailable, match=r"a\.bin: its 16 bytes have sha256 .*, those that were stored"):
        store.get("a.bin")
