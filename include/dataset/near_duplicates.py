"""Finds near copies: resized, recompressed, cropped, mirrored or turned images, but not another drawing nor another colour.

In two steps. Low frequencies of the luma, in each of the eight ways to mirror and turn a picture, name candidates. Then the candidates are
laid over each other and compared pixel by pixel, in colour: the hash alone takes a red drawing for its blue version.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from include.dataset.alignment import align
from include.dataset.fingerprints import CHROMA_LOW, LOW, SIDE, descriptors, smoothed

ALGORITHM = 1  #: raised when other pairs are found
#: Distance of two descriptors, in parts of the mean of their lengths, up to which they are candidates.
CANDIDATE = 0.32
TURNED_CANDIDATE = 0.12  #: the same for mirrored and turned pictures, which are not looked for where they are cropped as well
PER_IMAGE = 2  #: candidates compared for each image and turn, the nearest ones
MEAN_CANDIDATE = 14.0  #: levels by which the means of a channel differ at most before one is laid on the other
FLOOR = 1.5  #: levels; the length that a descriptor has at least, so that plain surfaces can be compared
BLOCK = 4  #: pixels of a fingerprint; a difference counts that fills such a block
DIFFERENT = 9.0  #: mean levels of a block, beyond what a pixel's neighbours explain, from which two pictures differ
MEAN_DIFFERENT = 6.0  #: levels by which the mean of a channel may differ, over what lies on each other
OVERLAP = 0.55  #: share of the picture that must lie on the other
THREADS = 2
_ROWS, _PAIRS = 512, 128  #: images and pairs compared at a time

Candidate = tuple[np.ndarray, np.ndarray]


def find_pairs(pictures: np.ndarray, since: int = 0, described: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Indices of near copies, lower first, in order.

    :param pictures: (N, 32, 32, 3) uint8
    :param since: the ones before have been compared with each other; only pairs with one from here on are looked for
    :param described: the descriptors of ``pictures``, where they are known
    """
    found: set[tuple[int, int]] = set()
    if since >= len(pictures):
        return []
    described = descriptors(pictures) if described is None else described

    def compared(chunk: tuple[int, np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
        turn, one, other = chunk
        same = are_near(turned(smoothed(pictures[one]), turn), smoothed(pictures[other]))
        return list(zip(other[same].tolist(), one[same].tolist(), strict=True))

    # NumPy lets go of the interpreter's lock while it works on pairs of this many pixels.
    with ThreadPoolExecutor(THREADS) as threads:
        for pairs in threads.map(compared, _chunks(described, since)):
            found.update(pairs)
    return sorted(found)


def _chunks(described: np.ndarray, since: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Candidates as turn and indices, some pairs at a time."""
    for turn in range(8):
        for ours, theirs in _candidates(described, since, turn, TURNED_CANDIDATE if turn else CANDIDATE):
            for start in range(0, len(ours), _PAIRS):
                yield turn, ours[start : start + _PAIRS], theirs[start : start + _PAIRS]


def _candidates(described: np.ndarray, since: int, turn: int, limit: float) -> Iterator[Candidate]:
    """Pairs of a picture from ``since`` on, turned, and one before it in the order."""
    flat, squares = _flat(described), (described**2).sum(axis=(1, 2, 3))
    lengths = np.maximum(np.sqrt(squares), FLOOR) * (limit / 2)
    for start in range(since, len(flat), _ROWS):
        rows = slice(start, min(start + _ROWS, len(flat)))
        ours = _flat(turned_descriptors(described[rows], turn))
        # Squared distance less squared limit: a² + b² - 2ab - (la + lb)², so that one product and two sums do.
        beyond = ours @ (-2 * flat[: rows.stop].T)
        beyond -= 2 * lengths[rows, None] * lengths[: rows.stop]
        beyond += (squares - lengths**2)[rows, None]
        beyond += (squares - lengths**2)[: rows.stop]
        one, other = np.nonzero(beyond <= 0)
        keep = other < one + start
        yield _nearest(one[keep] + start, other[keep], beyond[one[keep], other[keep]])


def _flat(described: np.ndarray) -> np.ndarray:
    """(N, 114) of (N, 3, 8, 8): without the frequencies of the chromas that are not used."""
    chroma = described[:, 1:, :CHROMA_LOW, :CHROMA_LOW].reshape(len(described), -1)
    return np.concatenate([described[:, 0].reshape(len(described), -1), chroma], axis=1)


def _nearest(ours: np.ndarray, theirs: np.ndarray, distances: np.ndarray) -> Candidate:
    """Of each of ours the few with the least distance."""
    order = np.lexsort((distances, ours))
    ours, theirs = ours[order], theirs[order]
    first = np.searchsorted(ours, ours, side="left")
    keep = np.arange(len(ours)) - first < PER_IMAGE
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
