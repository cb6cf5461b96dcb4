"""What the files beside images said when they were last read, so that a listing reads only those that are new or changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from include.dataset.files import digest_of, write_atomically
from include.dataset.trees import Entry

CODE_VERSION = 1  #: raised when the same file says something else


class ReadMemory:
    """By the key and stamp of a file, whatever JSON can hold. Keeps what the last listing asked for, of one place."""

    def __init__(self, path: Path | None = None) -> None:
        """Without ``path`` it forgets."""
        self._path = path
        self._known: dict[str, list[Any]] = _load(path) if path else {}
        self._asked: dict[str, list[Any]] = {}

    def recall(self, entry: Entry, read: Callable[[Entry], Any]) -> Any:
        """What ``read`` made of the file, then or now."""
        known = self._known.get(entry.key)
        if known is None or known[0] != entry.stamp:
            known = [entry.stamp, read(entry)]
        self._asked[entry.key] = known
        return known[1]

    def save(self) -> None:
        if self._path and self._asked != self._known:
            write_atomically(self._path, json.dumps([CODE_VERSION, self._asked], separators=(",", ":")).encode())
            self._known = self._asked
        self._asked = {}


def memory_of(root: Path, place: str) -> ReadMemory:
    """Of a folder or bucket that datasets under ``root`` are made from."""
    return ReadMemory(root / ".cache" / "listings" / f"{digest_of(place)[:16]}.json")


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        version, known = json.loads(path.read_bytes())
        return dict(known) if version == CODE_VERSION else {}
    except (OSError, ValueError, TypeError):  # nothing remembered costs time and nothing else
        return {}
