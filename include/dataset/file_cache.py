"""Files of a version on this machine: those of a folder where they are, those of a bucket in a bounded cache, all with a checked digest."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from include.dataset.files import write_atomically
from include.dataset.trees import is_bucket, read_range

GIB = 1 << 30


class FileCache:
    """Safe to use from several threads and processes: a file appears whole, under the digest of its content.

    :param folder: where downloads are kept; None where there will be none
    :param limit: bytes; the files that were used longest ago go first
    """

    def __init__(self, folder: Path | None, limit: int = 50 * GIB) -> None:
        self.folder, self.limit = folder, limit
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
                data = read_range(path)
                _check(hashlib.sha256(data).hexdigest(), sha256, path)
                self._make_room(len(data))
                write_atomically(kept, data)
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(found: str, sha256: str, path: str) -> None:
    if found != sha256:
        raise ValueError(f"{path} is not the file of the manifest: its digest differs")
