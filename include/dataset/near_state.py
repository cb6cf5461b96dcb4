"""The near-duplicate pairs of a dataset, remembered from version to version: only what is new is compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from include.dataset.files import write_json
from include.dataset.fingerprints import stacked
from include.dataset.near_duplicates import ALGORITHM, find_pairs


def near_pairs(fingerprints: Sequence[bytes], root: Path, dataset: str) -> list[tuple[int, int]]:
    """Pairs of near copies, as indices into ``fingerprints``, the lower first, in order. Leaves what it found for the next time."""
    names = [hashlib.sha256(data).hexdigest()[:32] for data in fingerprints]
    path = root / ".cache" / "near" / f"{dataset}-{ALGORITHM}.json"
    known, remembered = _read(path)
    # Old ones first, so that those that follow are compared with everything before them.
    order = sorted(range(len(names)), key=lambda index: (names[index] not in known, index))
    since = sum(name in known for name in names)
    found = find_pairs(stacked([fingerprints[index] for index in order]), since=since)
    pairs = {_sorted(order[one], order[other]) for one, other in found}
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    pairs |= {_sorted(i, j) for one, other in remembered for i in places.get(one, ()) for j in places.get(other, ()) if i != j}
    pairs |= {_sorted(same[0], other) for same in places.values() for other in same[1:]}
    if since < len(names):
        write_json(path, {"known": sorted(set(names)), "pairs": sorted({tuple(sorted((names[i], names[j]))) for i, j in pairs})})
    return sorted(pairs)


def _read(path: Path) -> tuple[set[str], list[tuple[str, str]]]:
    try:
        content = json.loads(path.read_text())
        return set(content["known"]), [(one, other) for one, other in content["pairs"]]
    except (OSError, ValueError, KeyError):
        return set(), []  # nothing remembered costs time and nothing else


def _sorted(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
