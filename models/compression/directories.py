"""A variant's directory: files only, each with its digest in ``variant.json``; whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

RECORD = "variant.json"
PIPELINE = "pipeline"
PART = ".part-"
_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)


class DamagedVariantError(ValueError):
    """A file was changed, added or removed since the variant was built."""


def link_tree(source: Path, target: Path, wanted: Callable[[Path], bool] = lambda path: True) -> None:
    """The files below ``source`` that are wanted, as hard links where the file system has them: variants share most of their files."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and wanted(path):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)


def replace_file(path: Path) -> Path:
    """The path, free to be written: what lay there may be a link to another directory's file, which must stay as it is."""
    path.unlink(missing_ok=True)
    return path


@contextmanager
def writing_directory(final: Path) -> Iterator[Path]:
    """An empty directory that becomes ``final`` as a whole, with a record of its files, or is gone. Raises :class:`OSError`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=PART) as folder:
        part = Path(folder) / "part"
        part.mkdir()
        yield part
        (part / RECORD).write_text(json.dumps(digests(part), indent=1), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 by relative path, of every file but the record."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path != directory / RECORD)
    return {path.relative_to(directory).as_posix(): _sha256(path) for path in files}


def verify(directory: Path) -> None:
    """Raises :class:`DamagedVariantError`, or :class:`FileNotFoundError` where there is no variant."""
    if json.loads((directory / RECORD).read_text(encoding="utf-8")) != digests(directory):
        raise DamagedVariantError(f"{directory.name}: a file was changed, added or removed since it was built")


def is_no_room(error: BaseException) -> bool:
    """Whether the disk, or the quota, is full; libraries in Rust say it in words only."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_ROOM:
            return True
        if any(f"os error {number})" in str(seen) for number in _NO_ROOM):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def size_mb(files: list[Path]) -> float:
    return sum(path.stat().st_size for path in files) / 1e6


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
