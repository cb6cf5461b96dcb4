"""The near-duplicate pairs of a dataset, remembered from version to version: only what a change touches is compared again.

Which pairs are found depends on the images alone, and not on the order in which they came: pictures are compared in the order of their
names, and a picture that has another among its nearest for the first time, or has one no more, is compared anew. Those that are held out
are compared with all that look like them, so that no copy among what is trained on hides behind other drawings.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from include.dataset.files import write_atomically
from include.dataset.fingerprints import LOW, descriptors
from include.dataset.near_duplicates import (
    ALGORITHM,
    Candidates,
    are_copies,
    find_all_candidates,
    find_candidates,
    one_thread_a_product,
    reached,
)

Pictures = Callable[[list[int]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Of a set of pictures."""

    names: list[str]  #: in order
    described: np.ndarray  #: (N, 3, 8, 8) float32
    candidates: Candidates  #: indices into ``names``
    near: np.ndarray  #: (P,) bool, which of them are near copies
    held_out: np.ndarray  #: (H,) int, indices into ``names``, in order
    across: Candidates  #: of those that are held out, among all
    across_near: np.ndarray  #: bool


def name_of(fingerprint: bytes) -> str:
    """Names a picture by its content."""
    return hashlib.sha256(fingerprint).hexdigest()[:32]


def near_pairs(names: Sequence[str], pictures: Pictures, root: Path, dataset: str, held_out: Collection[int] = ()) -> list[tuple[int, int]]:
    """Pairs of near copies, as indices into ``names``, the lower first, in order. Leaves what it found for the next time.

    :param names: of :func:`name_of`; pictures of one name are near copies
    :param pictures: gives (N, 32, 32, 3) uint8 for some indices into ``names``
    :param held_out: indices into ``names`` whose copies must not be missed
    """
    path = root / ".cache" / "near" / f"{dataset}-{ALGORITHM}.npz"
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    wanted, found = sorted(places), _read(path)
    rows = {name: row for row, name in enumerate(wanted)}
    held = np.array(sorted({rows[names[index]] for index in held_out}), np.int64)
    if found.names != wanted or not np.array_equal(found.held_out, held):
        with one_thread_a_product():
            found = _renewed(found, wanted, held, lambda rows: pictures([places[wanted[row]][0] for row in rows.tolist()]))
        _write(path, found)
    near = [*found.candidates.at(found.near).pairs(), *found.across.at(found.across_near).pairs()]
    pairs = {(min(i, j), max(i, j)) for one, other in near for i in places[wanted[one]] for j in places[wanted[other]]}
    return sorted(pairs | {(same[0], other) for same in places.values() for other in same[1:]})


def _renewed(known: _Found, names: list[str], held_out: np.ndarray, pictures: Callable[[np.ndarray], np.ndarray]) -> _Found:
    """What is found of ``names``, of which much is known.

    :param pictures: gives those of some indices into ``names``
    """
    rows = {name: row for row, name in enumerate(names)}
    moved = np.array([rows.get(name, -1) for name in known.names], np.int64)  # where in ``names`` a known one is now
    there = moved >= 0
    described = np.empty((len(names), 3, LOW, LOW), np.float32)
    described[moved[there]] = known.described[there]
    again = np.ones(len(names), bool)
    again[moved[there]] = False
    new = np.flatnonzero(again)
    described[new] = descriptors(pictures(new))
    again[~again] = reached(described[~again], np.concatenate([described[new], known.described[~there]]))
    candidates, near = _moved(known.candidates, known.near, moved)
    fresh = find_candidates(described, np.flatnonzero(again))
    fresh_near = _judged(fresh, candidates, near, pictures)
    kept = ~again[candidates.later]
    across = find_all_candidates(described, held_out)
    return _Found(
        names=names,
        described=described,
        candidates=_joined(candidates.at(kept), fresh),
        near=np.append(near[kept], fresh_near),
        held_out=held_out,
        across=across,
        across_near=_judged(across, *_moved(known.across, known.across_near, moved), pictures),
    )


def _moved(known: Candidates, near: np.ndarray, moved: np.ndarray) -> tuple[Candidates, np.ndarray]:
    """The known candidates that are still there, by their new indices."""
    later, earlier = moved[known.later], moved[known.earlier]
    there = (later >= 0) & (earlier >= 0)
    return Candidates(later=later, earlier=earlier, turns=known.turns).at(there), near[there]


def _judged(fresh: Candidates, known: Candidates, near: np.ndarray, pictures: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(P,) bool for the fresh ones: as it is known, else by comparing them."""
    verdicts = dict(zip(_rows(known), near.tolist(), strict=True))
    found = [verdicts.get(row) for row in _rows(fresh)]
    judged = np.array([bool(verdict) for verdict in found], bool)
    if unknown := [place for place, verdict in enumerate(found) if verdict is None]:
        left = fresh.at(np.array(unknown))
        needed = np.union1d(left.later, left.earlier)
        compact = Candidates(later=np.searchsorted(needed, left.later), earlier=np.searchsorted(needed, left.earlier), turns=left.turns)
        judged[unknown] = are_copies(compact, pictures(needed))
    return judged


def _rows(candidates: Candidates) -> Iterator[tuple[int, int, int]]:
    return zip(candidates.later.tolist(), candidates.earlier.tolist(), candidates.turns.tolist(), strict=True)


def _joined(one: Candidates, other: Candidates) -> Candidates:
    sides = ((getattr(one, side), getattr(other, side)) for side in ("later", "earlier", "turns"))
    later, earlier, turns = (np.concatenate(side) for side in sides)
    return Candidates(later=later, earlier=earlier, turns=turns)


def _read(path: Path) -> _Found:
    try:
        with path.open("rb") as file, np.load(file) as content:
            return _Found(
                names=content["names"].tolist(),
                described=content["described"],
                candidates=_of_rows(content["candidates"]),
                near=content["near"],
                held_out=content["held_out"],
                across=_of_rows(content["across"]),
                across_near=content["across_near"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # nothing remembered costs time and nothing else
        none, no = _of_rows(np.zeros((3, 0))), np.zeros(0, bool)
        described, held_out = np.zeros((0, 3, LOW, LOW), np.float32), np.zeros(0, np.int64)
        return _Found(names=[], described=described, candidates=none, near=no, held_out=held_out, across=none, across_near=no)


def _of_rows(rows: np.ndarray) -> Candidates:
    later, earlier, turns = rows.astype(np.int64)
    return Candidates(later=later, earlier=earlier, turns=turns)


def _in_rows(candidates: Candidates) -> np.ndarray:
    return np.array([candidates.later, candidates.earlier, candidates.turns], np.int32)


def _write(path: Path, found: _Found) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        names=np.array(found.names, "U32"),
        described=found.described,
        candidates=_in_rows(found.candidates),
        near=found.near,
        held_out=found.held_out,
        across=_in_rows(found.across),
        across_near=found.across_near,
    )
    write_atomically(path, buffer.getvalue())
