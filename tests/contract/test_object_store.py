"""What every object store does, run on a directory, on a real S3 server and through a gateway (which lists no keys)."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from fastapi import FastAPI

from include.config import Settings
from include.gateway.edge import session
from include.storage import InvalidKeyError, ObjectMissingError, ObjectStore, open_store
from include.worker.edge_client import EdgeClient

KEY = "images/acme/r-1/0.png"
DATA = b"\x89PNG not really"
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_an_object_is_read_back_as_it_was_stored(store: ObjectStore) -> None:
    result = store.put_if_absent(KEY, DATA, "image/png")
    assert (result.created, result.sha256, result.size) == (True, DIGEST, len(DATA))
    assert store.get(KEY) == DATA


def test_a_taken_key_keeps_its_object_and_the_answer_describes_it(store: ObjectStore) -> None:
    store.put_if_absent(KEY, DATA, "image/png")
    result = store.put_if_absent(KEY, b"something else, longer", "image/png")
    assert (result.created, result.sha256, result.size) == (False, DIGEST, len(DATA))
    assert store.get(KEY) == DATA


def test_of_concurrent_puts_one_creates(store: ObjectStore) -> None:
    together = threading.Barrier(8)

    def put(number: int) -> bool:
        together.wait(10)
        return store.put_if_absent(KEY, f"writer {number}".encode() * 1000, "text/plain").created

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(put, range(8)))
    assert created.count(True) == 1
    assert store.get(KEY) == f"writer {created.index(True)}".encode() * 1000


def test_put_replaces_what_is_there(store: ObjectStore) -> None:
    for data in (b"first, and longer", DATA):
        store.put(KEY, data, "image/png")
    info = store.head(KEY)
    assert store.get(KEY) == DATA
    assert info is not None and (info.size, info.sha256, info.media_type) == (len(DATA), DIGEST, "image/png")
    assert not store.put_if_absent(KEY, b"other", "image/png").created


def test_a_put_leaves_nothing_but_its_object(listing_store: ObjectStore) -> None:
    for data in (b"one", b"another"):
        listing_store.put(KEY, data, "image/png")
    assert list(listing_store.list()) == [KEY]


def test_a_reader_sees_the_whole_of_one_put_or_of_another(store: ObjectStore) -> None:
    written = [bytes([number]) * 200_000 for number in range(20)]
    store.put(KEY, written[0], "text/plain")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [store.put(KEY, data, "text/plain") for data in written])
        while not writing.done():
            assert store.get(KEY) in written
        writing.result()
    assert store.get(KEY) == written[-1]


def test_head_tells_size_digest_and_media_type(store: ObjectStore) -> None:
    assert store.head(KEY) is None
    store.put_if_absent(KEY, DATA, "image/png")
    info = store.head(KEY)
    assert info is not None
    assert (info.key, info.size, info.sha256, info.media_type) == (KEY, len(DATA), DIGEST, "image/png")


def test_head_reads_nothing_of_the_object(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of weights is looked up as fast as a preview."""
    for key, put in (("once.bin", store.put_if_absent), ("over.bin", store.put)):
        put(key, DATA, "application/octet-stream")
    monkeypatch.setattr(type(store), "get", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    for key in ("once.bin", "over.bin"):
        info = store.head(key)
        assert info is not None and (info.size, info.sha256) == (len(DATA), DIGEST)


def test_a_missing_object_is_said_to_be_missing(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match=r"images/acme/r-1/0\.png"):
        store.get(KEY)


def test_an_upload_that_changes_on_its_way_is_not_stored(object_door: tuple[FastAPI, EdgeClient], tmp_path: Path) -> None:
    app, client = object_door
    behind = open_store(Settings(_env_file=None, home=tmp_path))
    app.dependency_overrides[session.edge_store] = lambda: behind
    answer = client.call("PUT", f"objects/{KEY}", content=b"changed", headers={"If-None-Match": "*", "X-Atelier-Sha256": DIGEST})
    assert answer.status_code == 400 and "changed on their way" in answer.json()["error"]["message"]
    assert behind.head(KEY) is None


def test_list_gives_keys_under_a_prefix_in_order(listing_store: ObjectStore) -> None:
    store = listing_store
    keys = ["images/a/2/0.png", "images/a/1/0.png", "images/ab/1/0.png", "other/1.json"]
    for key in keys:
        store.put_if_absent(key, b"x", "text/plain")
    assert list(store.list("images/a/")) == ["images/a/1/0.png", "images/a/2/0.png"]
    assert list(store.list("images/a")) == ["images/a/1/0.png", "images/a/2/0.png", "images/ab/1/0.png"]
    assert list(store.list()) == sorted(keys)
    assert list(store.list("nothing/here/")) == []


def test_a_deleted_key_is_free_again(store: ObjectStore) -> None:
    store.put_if_absent(KEY, DATA, "image/png")
    store.delete(KEY)
    store.delete(KEY)
    assert store.head(KEY) is None
    assert store.put_if_absent(KEY, b"new", "image/png").created


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert store.put_if_absent("empty.txt", b"", "text/plain").created
    assert store.get("empty.txt") == b""


def test_the_url_names_the_object(store: ObjectStore) -> None:
    assert store.url(KEY).endswith("/" + KEY)


def test_odd_keys_are_refused(store: ObjectStore) -> None:
    odd = [
        "",
        "/etc/passwd",
        "../secret",
        "images/../../secret",
        "images//0.png",
        "images/",
        ".hidden",
        "a\\b",
        "a\0b",
        "a b",
        "é",
        "x" * 513,
    ]
    for key in odd:
        for call in (
            partial(store.put_if_absent, key, b"x", "text/plain"),
            partial(store.put, key, b"x", "text/plain"),
            partial(store.get, key),
        ):
            with pytest.raises(InvalidKeyError, match="object key"):
                call()


def test_an_odd_prefix_is_refused(listing_store: ObjectStore) -> None:
    with pytest.raises(InvalidKeyError):
        list(listing_store.list("../"))
