"""Files below a place, which is a folder or ``s3://bucket/prefix``: listed with a stamp that changes when they do, read in ranges."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from include.config import settings

#: Bytes fetched at once by a sequential reader of an object, so that the headers of a tar don't cost a request each.
READ_AHEAD = 1 << 20


class Entry(NamedTuple):
    """A file. A tuple, since a listing makes very many."""

    key: str  #: relative to the place, with slashes
    path: str  #: where :func:`read_range` finds it
    size: int  #: bytes
    stamp: str  #: changes when the content does
    modified: float  #: when it was written, seconds since 1970


class PlaceUnavailableError(OSError):
    """A bucket that can't be reached or refuses access. Trying again may help, which it doesn't for a file that isn't there."""


def stamp_of(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def is_bucket(place: str) -> bool:
    return place.startswith("s3://")


def list_tree(place: str) -> list[Entry]:
    """In the order of the keys. Raises :class:`FileNotFoundError` for no folder, :class:`PlaceUnavailableError` for an unreadable place."""
    found = list(_objects(place) if is_bucket(place) else _files(place))
    return sorted(found, key=attrgetter("key"))


def find_entry(place: str, key: str) -> Entry | None:
    """One file of a place as it is now; None where it isn't there."""
    path = f"{place.rstrip('/')}/{key}"
    if is_bucket(place):
        return _find_object(key, path)
    with suppress(FileNotFoundError, NotADirectoryError):
        return _entry(key, path, os.stat(path))
    return None


def read_range(path: str, offset: int = 0, length: int | None = None) -> bytes:
    """Raises :class:`OSError`: :class:`PlaceUnavailableError` where the fault isn't the file's."""
    if is_bucket(path):
        return _read_object(path, offset, length)
    # Unbuffered: most files are captions of a line, for which a buffer costs more than reading.
    with open(path, "rb", buffering=0) as file:
        if offset:
            file.seek(offset)
        return file.readall() if length is None else file.read(length) or b""


def open_seekable(entry: Entry) -> io.BufferedIOBase:
    """For reading parts of a large file one after another."""
    if not is_bucket(entry.path):
        return open(entry.path, "rb")
    return io.BufferedReader(_ObjectReader(entry), READ_AHEAD)


def _files(place: str) -> Iterator[Entry]:
    if not os.path.isdir(place):
        raise FileNotFoundError(f"path: {place} is not a folder")
    top = place.rstrip("/")
    folders = [top or "/"]
    while folders:
        folder = folders.pop()
        for entry in _scanned(folder):
            try:
                # One look at the file system for each: asking an entry for its kind is a second one where it is a link.
                found = entry.stat()
            except FileNotFoundError:  # a broken link is no file
                continue
            if stat.S_ISREG(found.st_mode):
                yield _entry(entry.path[len(top) + 1 :], entry.path, found)
            elif stat.S_ISDIR(found.st_mode) and not entry.is_symlink():
                folders.append(entry.path)


def _scanned(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise PlaceUnavailableError(f"path: can't list {error.filename}: {error.strerror}; check its permissions") from error


def _entry(key: str, path: str, found: os.stat_result) -> Entry:
    return Entry(key=key, path=path, size=found.st_size, stamp=stamp_of(found), modified=found.st_mtime)


def _objects(place: str) -> Iterator[Entry]:
    bucket, prefix = _address(place)
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    try:
        for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):
                    yield _object(found["Key"].removeprefix(prefix), f"s3://{bucket}/{found['Key']}", found["Size"], found)
    except _client_errors() as error:
        raise PlaceUnavailableError(
            f"path: can't list {place}: {error}; check the bucket's name, ATELIER_S3_ENDPOINT and the keys"
        ) from error


def _object(key: str, path: str, size: int, found: dict[str, Any]) -> Entry:
    """From what a listing or a HEAD says."""
    return Entry(key=key, path=path, size=size, stamp=found["ETag"].strip('"'), modified=found["LastModified"].timestamp())


def _find_object(key: str, path: str) -> Entry | None:
    bucket, name = _address(path)
    try:
        found = _client().head_object(Bucket=bucket, Key=name)
    except _client_errors() as error:
        if _code(error) in ("NoSuchKey", "404"):
            return None
        raise PlaceUnavailableError(f"can't look at {path}: {error}") from error
    return _object(key, path, found["ContentLength"], found)


def _read_object(path: str, offset: int, length: int | None) -> bytes:
    bucket, key = _address(path)
    end = "" if length is None else str(offset + length - 1)
    ranged = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}
    try:
        return bytes(_client().get_object(Bucket=bucket, Key=key, **ranged)["Body"].read())
    except _client_errors() as error:
        if _code(error) in ("NoSuchKey", "404", "InvalidRange"):
            raise FileNotFoundError(2, "no such object", path) from error
        raise PlaceUnavailableError(f"can't read {path}: {error}") from error


def _address(place: str) -> tuple[str, str]:
    parts = urlsplit(place)
    if not parts.netloc:
        raise ValueError(f"path: {place!r} names no bucket; use s3://bucket/prefix")
    return parts.netloc, place.removeprefix(f"s3://{parts.netloc}").lstrip("/")


@lru_cache(maxsize=1)
def _client() -> Any:
    from include.storage.s3 import s3_client  # boto3 is slow to import, and a folder does without it

    config = settings()
    keys = {name: key for name in ("access_key", "secret_key") if (key := getattr(config, f"s3_{name}")).get_secret_value()}
    return s3_client(endpoint=config.s3_endpoint, region=config.s3_region, **keys)


def _client_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


class _ObjectReader(io.RawIOBase):
    """An object as a seekable file; each read is one ranged request."""

    def __init__(self, entry: Entry) -> None:
        self._entry, self._position = entry, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._entry.size - self._position)
        if length <= 0:
            return 0
        data = read_range(self._entry.path, self._position, length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
