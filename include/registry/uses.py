"""Which cached versions are in use, told across processes by locks that the system drops with the process that held them."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def uses_of(cache_dir: Path) -> Uses:
    """Of the versions that are cached under ``cache_dir``."""
    return Uses(cache_dir.with_name(f".{cache_dir.name}.locks"))


class Uses:
    """A lock file a version under ``directory``: shared by those who use the version, exclusive for who deletes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}

    def hold(self, digest: str) -> None:
        """Nobody deletes the version until :meth:`release`, or the end of this process. Waits while somebody does right now."""
        with self._lock:
            if digest not in self._held:
                self._held[digest] = descriptor = self._open(digest)
                fcntl.flock(descriptor, fcntl.LOCK_SH)

    def release(self, digest: str) -> None:
        with self._lock:
            descriptor = self._held.pop(digest, None)
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def unused(self, digest: str) -> Iterator[bool]:
        """Whether nobody, this process included, uses the version; while that is so, nobody can begin to."""
        descriptor = self._open(digest)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    def _open(self, digest: str) -> int:
        self.directory.mkdir(parents=True, exist_ok=True)
        return os.open(self.directory / digest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
