"""Sizes and ages of directories, and how one is removed so that nobody sees half of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GONE = ".gone-"  #: in front of the name of what is half removed


def size_of(path: Path) -> int:
    return sum(found.st_size for found in _stats(path))


def age_of(path: Path, *, besides: frozenset[str] = frozenset()) -> float:
    """Seconds since anything in it, or the file itself, was written.

    :param besides: names of files whose time says nothing
    """
    newest = max((found.st_mtime for found in _stats(path, besides)), default=0.0)
    return max(0.0, time.time() - (newest or path.stat().st_mtime))


def remove_tree(path: Path, trash: Path) -> None:
    """Takes the directory away at once, by a new name in ``trash`` on the same file system, and then deletes it.

    A crash between the two leaves the new name, which :func:`half_removed` finds.
    """
    gone = trash / f"{GONE}{path.parent.name}-{path.name}"
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(path, gone)
    shutil.rmtree(gone)


def half_removed(trash: Path) -> Iterator[Path]:
    yield from trash.glob(f"{GONE}*")


def _stats(path: Path, besides: frozenset[str] = frozenset()) -> Iterator[os.stat_result]:
    """Of the files below, without those that vanish meanwhile."""
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                if name not in besides:
                    yield os.lstat(os.path.join(folder, name))
