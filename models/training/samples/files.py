"""Files of a version on this machine: those of a folder where they are, those of a bucket in a bounded cache, all with a checked digest."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GIB = 1 << 30


def is_bucket(path: str) -> bool:
    return path.startswith("s3://")


def read_bytes(path: str) -> bytes:
    """A file, or an object of S3, whose endpoint and keys are those of the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on.

    Raises :class:`OSError`: :class:`FileNotFoundError` where there is none of that name.
    """
    if not is_bucket(path):
        return Path(path).read_bytes()
    from botocore.exceptions import BotoCoreError, ClientError

    address = urlsplit(path)
    try:
        return bytes(_client().get_object(Bucket=address.netloc, Key=address.path.lstrip("/"))["Body"].read())
    except (BotoCoreError, ClientError) as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") in ("NoSuchKey", "NoSuchBucket", "404"):
            raise FileNotFoundError(2, "no such object", path) from error
        raise OSError(f"can't read {path}: {error}; check AWS_ENDPOINT_URL and the keys") from error


@lru_cache(maxsize=1)
def _client() -> Any:
    import boto3  # slow to import, and a folder does without it
    from botocore.config import Config

    retries: Any = {"max_attempts": 5, "mode": "standard"}
    return boto3.session.Session().client("s3", config=Config(retries=retries, s3={"addressing_style": "path"}))


class FileCache:
    """Safe to use from several threads and processes: a file appears whole, under the digest of its content.

    :param folder: where downloads are kept; None where there will be none
    :param limit: bytes; the files that were used longest ago go first
    :param read: gives the content of a file or an object; raises :class:`OSError`
    """

    def __init__(self, folder: Path | None, limit: int = 50 * GIB, read: Callable[[str], bytes] = read_bytes) -> None:
        self.folder, self.limit, self.read = folder, limit, read
        self._checked: set[str] = set()
        self._lock = threading.Lock()

    def local(self, path: str, sha256: str) -> Path:
        """Where to read the file.

        Raises :class:`ValueError` when its content is not the manifest's, :class:`OSError` when it isn't there.
        """
        if not is_bucket(path):
            if path not in self._checked:
                _check(_digest(Path(path)), sha256, path)
                self._checked.add(path)
            return Path(path)
        if self.folder is None:
            raise ValueError(f"cache: give a folder to keep the files of {path} in")
        with self._lock:
            kept = self.folder / f"{sha256}.parquet"
            if not kept.exists():
                data = self.read(path)
                _check(hashlib.sha256(data).hexdigest(), sha256, path)
                self._make_room(len(data))
                _write_whole(kept, data)
            kept.touch()
            return kept

    def _make_room(self, wanted: int) -> None:
        assert self.folder is not None
        found = sorted(((path.stat(), path) for path in self.folder.glob("*.parquet")), key=lambda pair: pair[0].st_mtime)
        used = sum(stat.st_size for stat, _ in found)
        for stat, path in found:
            if used + wanted <= self.limit:
                break
            path.unlink(missing_ok=True)
            used -= stat.st_size


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(found: str, sha256: str, path: str) -> None:
    if found != sha256:
        raise ValueError(f"{path} is not the file of the manifest: its digest differs")
