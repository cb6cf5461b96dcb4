"""Finds near copies: resized, recompressed, cropped, mirrored or turned images, but not another drawing nor another colour.

In two steps. Low frequencies of the luma, in each of the eight ways to mirror and turn a picture, name candidates. Then the candidates are
laid over each other and compared pixel by pixel, in colour: the hash alone takes a red drawing for its blue version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from include.dataset.alignment import align
from include.dataset.fingerprints import CHROMA_LOW, LOW, SIDE, descriptors, smoothed

ALGORITHM = 2  #: raised when other pairs are found
#: Distance of two descriptors, in parts of the mean of their lengths, up to which they are candidates.
CANDIDATE = 0.32
TURNED_CANDIDATE = 0.12  #: the same for mirrored and turned pictures, which are not looked for where they are cropped as well
PER_IMAGE = 2  #: candidates compared for each image and turn, the nearest ones before it
#: The same among all others, for those that must not miss a copy: the nearest few may be other drawings that look alike.
PER_HELD_OUT = 64
MEAN_CANDIDATE = 14.0  #: levels by which the means of a channel differ at most before one is laid on the other
FLOOR = 1.5  #: levels; the length that a descriptor has at least, so that plain surfaces can be compared
BLOCK = 4  #: pixels of a fingerprint; a difference counts that fills such a block
DIFFERENT = 9.0  #: mean levels of a block, beyond what a pixel's neighbours explain, from which two pictures differ
MEAN_DIFFERENT = 6.0  #: levels by which the mean of a channel may differ, over what lies on each other
OVERLAP = 0.55  #: share of the picture that must lie on the other
THREADS = 2
_ROWS, _PAIRS, _EXACT = 512, 128, 65_536  #: images and pairs compared at a time, and distances worked out
_BLAS = ThreadpoolController()
_SLACK = 1e-4  #: part of a squared length, and squared levels, that a product in single precision is wrong by at most


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pairs that are worth a comparison, as indices into one stack of pictures. ``later``, turned, is laid on ``earlier``."""

    later: np.ndarray  #: (P,) int
    earlier: np.ndarray  #: (P,) int, each less than its partner, but in what :func:`find_all_candidates` gives
    turns: np.ndarray  #: (P,) int, from 0 to 7

    def at(self, chosen: np.ndarray) -> Candidates:
        """Some of them, by index or mask."""
        return Candidates(later=self.later[chosen], earlier=self.earlier[chosen], turns=self.turns[chosen])

    def pairs(self) -> list[tuple[int, int]]:
        """Lower index first, in order, each once."""
        ends = zip(self.earlier.tolist(), self.later.tolist(), strict=True)
        return sorted({(min(pair), max(pair)) for pair in ends})


def find_pairs(pictures: np.ndarray, rows: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Indices of near copies, lower first, in order.

    :param pictures: (N, 32, 32, 3) uint8
    :param rows: compare only these, in ascending order, with the ones before each; None compares all
    """
    with one_thread_a_product():
        candidates = find_candidates(descriptors(pictures), rows)
        return candidates.at(are_copies(candidates, pictures)).pairs()


def find_copies(known: np.ndarray, pictures: np.ndarray) -> list[tuple[int, int]]:
    """Near copies of ``known`` (K, 32, 32, 3) among ``pictures`` (N, 32, 32, 3): index of the known one, index of the copy, in order."""
    count = len(known)
    both = np.concatenate([known, pictures])
    with one_thread_a_product():
        candidates = find_candidates(descriptors(both), np.arange(count, len(both)), among=count)
        pairs = candidates.at(are_copies(candidates, both)).pairs()
    return [(one, copy - count) for one, copy in pairs]


def one_thread_a_product() -> AbstractContextManager[object]:
    """Matrices are small here: the threads of BLAS would spin for longer than they help."""
    limited: AbstractContextManager[object] = _BLAS.limit(limits=1, user_api="blas")
    return limited


def find_candidates(described: np.ndarray, rows: np.ndarray | None = None, among: int | None = None) -> Candidates:
    """What :func:`find_pairs` compares. A picture's candidates depend on nothing but it and the ones before it.

    :param described: (N, 3, 8, 8), of :func:`~include.dataset.fingerprints.descriptors`
    :param rows: look only for the candidates of these, which ascend
    :param among: and only among the first so many
    """
    rows = np.arange(len(described)) if rows is None else rows
    lows = _Lows.of(described)
    return _in_all_turns(rows, lambda some, turn: _nearest_before(described, lows, some, turn, among))


def find_all_candidates(described: np.ndarray, rows: np.ndarray) -> Candidates:
    """Candidates of some rows among all others, before and after; here ``later`` is the row, whichever index is less."""
    lows = _Lows.of(described)

    def nearest(some: np.ndarray, turn: int) -> tuple[np.ndarray, np.ndarray]:
        ours = _Lows.of(turned_descriptors(described[some], turn))
        one, other = np.nonzero(_may_be_near(ours, lows, turn))
        return _nearest_of(some, ours, lows, turn, one, other, other != some[one], PER_HELD_OUT)

    return _in_all_turns(rows, nearest)


def _in_all_turns(rows: np.ndarray, nearest: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]) -> Candidates:
    """What ``nearest`` finds for some rows in a turn, of all rows in all turns."""
    none = np.zeros(0, np.int64)
    found = [(none, none, none)]
    for turn in range(8):
        for start in range(0, len(rows), _ROWS):
            later, earlier = nearest(rows[start : start + _ROWS], turn)
            found.append((later, earlier, np.full(len(later), turn)))
    later, earlier, turns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Candidates(later=later, earlier=earlier, turns=turns)


def are_copies(candidates: Candidates, pictures: np.ndarray) -> np.ndarray:
    """(P,) bool: which of the candidates are near copies."""
    near = np.zeros(len(candidates.turns), bool)

    def compare(chunk: np.ndarray) -> None:
        one, other = pictures[candidates.later[chunk]], pictures[candidates.earlier[chunk]]
        near[chunk] = are_near(turned(smoothed(one), int(candidates.turns[chunk[0]])), smoothed(other))

    same_turn = (np.flatnonzero(candidates.turns == turn) for turn in range(8))
    chunks = (places[start : start + _PAIRS] for places in same_turn for start in range(0, len(places), _PAIRS))
    # NumPy lets go of the interpreter's lock while it works on pairs of this many pixels.
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(compare, chunks))
    return near


def reached(described: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) bool: which pictures may, in one of the eight turns, have one of the others (M, 3, 8, 8) among their candidates."""
    found = np.zeros(len(described), bool)
    lows = _Lows.of(described)
    for some in _blocks(len(others)):
        for turn in range(8):
            # To turn the others means as much: the way back from a turn is one of the eight as well.
            theirs = _Lows.of(turned_descriptors(others[some], turn))
            for rows in _blocks(len(described)):
                found[rows] |= _may_be_near(lows.at(rows), theirs, turn).any(axis=1)
    return found


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


@dataclass(frozen=True, kw_only=True)
class _Lows:
    """What is compared of descriptors."""

    flat: np.ndarray  #: (N, 114) float32
    squares: np.ndarray  #: (N,) float64, their squared lengths

    @classmethod
    def of(cls, described: np.ndarray) -> _Lows:
        flat = _flat(described)
        squares = [(flat[rows].astype(np.float64) ** 2).sum(axis=1) for rows in _blocks(len(flat))]
        return cls(flat=flat, squares=np.concatenate([np.zeros(0), *squares]))

    def at(self, rows: slice) -> _Lows:
        return _Lows(flat=self.flat[rows], squares=self.squares[rows])

    def reach(self, turn: int) -> np.ndarray:
        """What a picture adds to the distance up to which another is its candidate."""
        return np.asarray(np.maximum(np.sqrt(self.squares), FLOOR) * ((TURNED_CANDIDATE if turn else CANDIDATE) / 2))


def _nearest_before(described: np.ndarray, lows: _Lows, rows: np.ndarray, turn: int, among: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Of each of the rows, turned, the few nearest ones before it."""
    ours = _Lows.of(turned_descriptors(described[rows], turn))
    theirs = lows.at(slice(int(rows[-1]) + 1 if among is None else among))
    one, other = np.nonzero(_may_be_near(ours, theirs, turn))
    return _nearest_of(rows, ours, theirs, turn, one, other, other < rows[one], PER_IMAGE)


def _nearest_of(
    rows: np.ndarray, ours: _Lows, theirs: _Lows, turn: int, one: np.ndarray, other: np.ndarray, keep: np.ndarray, few: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each of the rows the few nearest ones, of pairs that may be near."""
    one, other = one[keep], other[keep]
    beyond = _beyond_reach(ours, theirs, turn, one, other)
    near = beyond <= 0
    return _nearest(rows[one[near]], other[near], beyond[near], few)


def _may_be_near(ours: _Lows, theirs: _Lows, turn: int) -> np.ndarray:
    """(N, M) bool, by one matrix product. That rounds as its shape happens to be, so the answer is yes where it is a close thing."""
    beyond = ours.flat @ (-2 * theirs.flat.T)  # a² + b² - 2ab - (la + lb)²
    beyond -= 2 * ours.reach(turn).astype(np.float32)[:, None] * theirs.reach(turn).astype(np.float32)
    for lows, axis in ((ours, 1), (theirs, 0)):
        least = lows.squares * (1 - _SLACK) - lows.reach(turn) ** 2 - _SLACK
        beyond += np.expand_dims(least.astype(np.float32), axis)
    return np.asarray(beyond <= 0)


def _beyond_reach(ours: _Lows, theirs: _Lows, turn: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distance less squared limit of these pairs, the same whatever else is worked out beside it."""
    found = np.empty(len(one))
    for part in (slice(start, start + _EXACT) for start in range(0, len(one), _EXACT)):
        apart = ours.flat[one[part]].astype(np.float64) - theirs.flat[other[part]]
        found[part] = (apart**2).sum(axis=1) - (ours.reach(turn)[one[part]] + theirs.reach(turn)[other[part]]) ** 2
    return found


def _flat(described: np.ndarray) -> np.ndarray:
    """(N, 114) of (N, 3, 8, 8): without the frequencies of the chromas that are not used."""
    chroma = described[:, 1:, :CHROMA_LOW, :CHROMA_LOW].reshape(-1, 2 * CHROMA_LOW**2)
    return np.concatenate([described[:, 0].reshape(-1, LOW**2), chroma], axis=1)


def _nearest(ours: np.ndarray, theirs: np.ndarray, distances: np.ndarray, few: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of ours the few with the least distance."""
    order = np.lexsort((theirs, distances, ours))
    ours, theirs = ours[order], theirs[order]
    first = np.searchsorted(ours, ours, side="left")
    keep = np.arange(len(ours)) - first < few
    return ours[keep], theirs[keep]


def are_near(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P,) bool for two stacks (P, 32, 32, 3) of smoothed pictures: whether each is a near copy of its partner."""
    same = _agree(pictures, others, np.ones(pictures.shape[:3], bool))
    means = np.abs((pictures - others).mean(axis=(1, 2))).max(axis=1)
    left = np.flatnonzero(~same & (means <= MEAN_CANDIDATE))
    if len(left):
        moved, inside = align(pictures[left], others[left])
        same[left] = _agree(moved, others[left], inside)
    return same


def _agree(pictures: np.ndarray, others: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Whether, where they overlap, no block differs by more than edges that lie a pixel apart would, and no channel as a whole."""
    beyond = np.maximum(_beyond(pictures, others), _beyond(others, pictures)).max(axis=3) * inside
    blocks = beyond.reshape(-1, SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(2, 4))
    area = np.maximum(inside.sum(axis=(1, 2)), 1)
    means = (np.abs(((pictures - others) * inside[..., None]).sum(axis=(1, 2))) / area[:, None]).max(axis=1)
    return (blocks.max(axis=(1, 2)) <= DIFFERENT) & (means <= MEAN_DIFFERENT) & (inside.mean(axis=(1, 2)) >= OVERLAP)


def _beyond(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far each value lies outside of those around it in the other picture."""
    low, high = others, others
    for axis in (1, 2):
        low, high = _over_three(low, axis, np.minimum), _over_three(high, axis, np.maximum)
    return np.maximum(np.maximum(pictures - high, low - pictures), 0)


def _over_three(values: np.ndarray, axis: int, choose: np.ufunc) -> np.ndarray:
    """The least or greatest of each value and its two neighbours along an axis."""
    found = values.copy()
    one = tuple(slice(None, -1) if index == axis else slice(None) for index in range(4))
    next_one = tuple(slice(1, None) if index == axis else slice(None) for index in range(4))
    choose(found[one], values[next_one], out=found[one])
    choose(found[next_one], values[one], out=found[next_one])
    return found


def turned(pictures: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight ways to mirror and turn (N, S, S, C): bits for exchanging axes, upside down, and left to right."""
    pictures = pictures.transpose(0, 2, 1, 3) if turn & 4 else pictures
    pictures = pictures[:, ::-1] if turn & 2 else pictures
    return pictures[:, :, ::-1] if turn & 1 else pictures


def turned_descriptors(described: np.ndarray, turn: int) -> np.ndarray:
    """What :func:`turned` does to descriptors: a mirrored cosine of odd frequency changes its sign."""
    signs = np.where(np.arange(LOW) % 2, -1.0, 1.0).astype(np.float32)
    described = described.transpose(0, 1, 3, 2) if turn & 4 else described
    described = described * signs[:, None] if turn & 2 else described
    return described * signs if turn & 1 else described
