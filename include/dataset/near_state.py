"""The near-duplicate pairs of a dataset, remembered from version to version: only what is new is compared."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from include.dataset.files import write_atomically
from include.dataset.fingerprints import LOW, descriptors, stacked
from include.dataset.near_duplicates import ALGORITHM, find_pairs

Ordered = TypeVar("Ordered", int, str)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was found before, by the names of fingerprints."""

    rows: dict[str, int] = field(default_factory=dict)  #: where in ``described``
    described: np.ndarray  #: (N, 3, 8, 8) float32
    pairs: list[tuple[str, str]] = field(default_factory=list)


def near_pairs(fingerprints: Sequence[bytes], root: Path, dataset: str) -> list[tuple[int, int]]:
    """Pairs of near copies, as indices into ``fingerprints``, the lower first, in order. Leaves what it found for the next time."""
    names = [hashlib.sha256(data).hexdigest()[:32] for data in fingerprints]
    path = root / ".cache" / "near" / f"{dataset}-{ALGORITHM}.npz"
    known = _read(path)
    # Old ones first, so that those that follow are compared with everything before them.
    order = sorted(range(len(names)), key=lambda index: (names[index] not in known.rows, index))
    since = sum(name in known.rows for name in names)
    described, found = known.described, []
    if since < len(names):
        ordered = [fingerprints[index] for index in order]
        described = _described(ordered, [names[index] for index in order], known, since)
        found = find_pairs(stacked(ordered), since, described)
    pairs = {_sorted(order[one], order[other]) for one, other in found}
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    pairs |= {_sorted(i, j) for one, other in known.pairs for i in places.get(one, ()) for j in places.get(other, ()) if i != j}
    pairs |= {_sorted(same[0], other) for same in places.values() for other in same[1:]}
    if since < len(names):
        by_name = {names[index]: row for row, index in enumerate(order)}
        _write(path, list(by_name), described[list(by_name.values())], sorted({_sorted(names[i], names[j]) for i, j in pairs}))
    return sorted(pairs)


def _described(fingerprints: list[bytes], names: list[str], known: _Known, since: int) -> np.ndarray:
    """Of the known ones what is remembered; the others are described now."""
    old = known.described[[known.rows[name] for name in names[:since]]]
    new = fingerprints[since:]
    return np.concatenate([old, descriptors(stacked(new))]) if new else old


def _read(path: Path) -> _Known:
    try:
        with np.load(path) as content:
            rows = {name: row for row, name in enumerate(content["names"].tolist())}
            pairs = [(one, other) for one, other in content["pairs"].tolist()]
            return _Known(rows=rows, described=content["described"], pairs=pairs)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # nothing remembered costs time and nothing else
        return _Known(described=np.zeros((0, 3, LOW, LOW), np.float32))


def _write(path: Path, names: list[str], described: np.ndarray, pairs: list[tuple[str, str]]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(names, "U32"), described=described, pairs=np.array(pairs, "U32").reshape(-1, 2))
    write_atomically(path, buffer.getvalue())


def _sorted(one: Ordered, other: Ordered) -> tuple[Ordered, Ordered]:
    return (one, other) if one < other else (other, one)
