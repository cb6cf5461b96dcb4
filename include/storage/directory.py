"""Objects as files under one directory."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.storage.base import (
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    PutResult,
    StoreUnavailable,
    check_digest,
    check_key,
    check_prefix,
    create_or_find,
)

PARTS = ".parts"  #: unfinished files; a key can't start with a dot, so no object is ever here
ATTRIBUTE = "user.atelier.sha256"  #: of an object's file: its digest, and the size and time of change that this is of
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DirectoryStore(ObjectStore):
    """An object becomes visible by a hard link from a finished, synced file, which is atomic and fails where the name is taken; one that
    replaces another, by a rename.

    The media type is told from the key's extension. An object's digest is kept as an attribute of its file; where the file system has none,
    or other hands changed the file, it is computed when asked for.
    """

    remote = False

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_if_absent(self, key: str, data: bytes, media_type: str) -> PutResult:
        path = self._path(key)

        def create(digest: str) -> bool:
            with _explained(f"can't store {key} under {self.root}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                return self._publish(path, data, digest)

        return create_or_find(self, key, data, create)

    def put(self, key: str, data: bytes, media_type: str) -> None:
        path = self._path(key)
        with _explained(f"can't store {key} under {self.root}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._part(data, hashlib.sha256(data).hexdigest()) as part:
                os.replace(part, path)
                _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _explained(f"can't read {key} under {self.root}"):
            try:
                with path.open("rb") as file:
                    data, digest = file.read(), _kept_digest(file.fileno())
            except ABSENT:
                raise ObjectMissingError(f"no object {key} under {self.root}") from None
        return data if digest is None else check_digest(data, digest, str(path))

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        with _explained(f"can't read {key} under {self.root}"):
            try:
                with path.open("rb") as file:
                    digest = _kept_digest(file.fileno()) or hashlib.file_digest(file, "sha256").hexdigest()
                    size = os.fstat(file.fileno()).st_size
            except ABSENT:
                return None
        media_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        return ObjectInfo(key=key, size=size, sha256=digest, media_type=media_type)

    def list(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        with _explained(f"can't list {self.root}"):
            yield from sorted(key for key in self._keys(prefix) if key.startswith(prefix))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _explained(f"can't delete {key} under {self.root}"), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()

    def url(self, key: str) -> str:
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _publish(self, path: Path, data: bytes, digest: str) -> bool:
        with self._part(data, digest) as part:
            try:
                os.link(part, path)
            except FileExistsError:
                return False
            _sync_folder(path.parent)
            return True

    @contextmanager
    def _part(self, data: bytes, digest: str) -> Iterator[str]:
        """A finished, synced file of the store's own, gone afterwards unless it was moved."""
        parts = self.root / PARTS
        parts.mkdir(exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=parts)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                _keep_digest(file.fileno(), digest)
                os.fsync(file.fileno())
            yield part
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)

    def _keys(self, prefix: str) -> Iterator[str]:
        start = self.root / prefix.rpartition("/")[0]
        for folder, subfolders, files in os.walk(start):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from ((Path(folder) / name).relative_to(self.root).as_posix() for name in files)


def _keep_digest(descriptor: int, digest: str) -> None:
    """Write down the digest of the file's content, where the file system can."""
    value = f"{digest} {_state(descriptor)}"
    with suppress(OSError, AttributeError):  # not every file system has attributes, nor every system the call
        os.setxattr(descriptor, ATTRIBUTE, value.encode())


def _kept_digest(descriptor: int) -> str | None:
    """The digest that was written down, if the file is as it was then."""
    try:
        digest, _, state = os.getxattr(descriptor, ATTRIBUTE).decode().partition(" ")
    except (OSError, AttributeError, UnicodeDecodeError):
        return None
    return digest if state == _state(descriptor) else None


def _state(descriptor: int) -> str:
    found = os.fstat(descriptor)
    return f"{found.st_size} {found.st_mtime_ns}"


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{what}: {error.strerror or error}; check space and permissions, or set ATELIER_STORE_URL") from error
