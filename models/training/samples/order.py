"""The order in which samples are visited: at random, yet never far from what has just been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WINDOW = 16  #: blocks shuffled together, about a thousand samples


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that are read together: a row group of a file."""

    file: int  #: which file of the split
    group: int  #: which row group of it
    first: int  #: index in the split of its first row
    rows: int
    size: tuple[int, int]  #: width and height of its images


def epoch_blocks(blocks: Sequence[Block], seed: int, epoch: int) -> list[Block]:
    """The blocks as this epoch reads them."""
    order = np.random.default_rng((seed, epoch)).permutation(len(blocks))
    return [blocks[index] for index in order]


def epoch_windows(blocks: Sequence[Block], seed: int, epoch: int, window: int) -> list[list[Block]]:
    """So many blocks at a time are in memory and shuffled together."""
    ordered = epoch_blocks(blocks, seed, epoch)
    return [ordered[start : start + window] for start in range(0, len(ordered), window)]


def window_order(window: Sequence[Block], seed: int, epoch: int, number: int) -> np.ndarray:
    """Indices in the split of a window's rows, shuffled. A function of its arguments, so that any window can be the first one read."""
    rows = np.concatenate([np.arange(block.first, block.first + block.rows) for block in window])
    return np.random.default_rng((seed, epoch, number)).permutation(rows)


def epoch_indices(blocks: Sequence[Block], seed: int, epoch: int, window: int = WINDOW) -> np.ndarray:
    """Indices in the split, in the order of the epoch."""
    windows = enumerate(epoch_windows(blocks, seed, epoch, window))
    parts = [window_order(one, seed, epoch, number) for number, one in windows]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Epoch:
    members: list[np.ndarray]  #: by size, the indices of its samples in the order of the epoch
    sizes: np.ndarray  #: of the batches that are complete in this epoch, in the order in which they are
    turns: np.ndarray  #: how many batches of its size came before each, in all epochs


class BatchPlan:
    """Which samples a step is made of, as a function of the seed and the step.

    Samples come epoch after epoch without end. Each waits for the others of its size, and a batch is as many as ``batch_size`` of one
    size. So every sample is used once an epoch, no batch is short, and what is left of a size goes into its first batch of the next epoch.

    :param kept: (rows of the split,) true for the samples that are used
    """

    def __init__(self, blocks: Sequence[Block], kept: np.ndarray, batch_size: int, seed: int, window: int = WINDOW) -> None:
        self.blocks = [block for block in blocks if kept[block.first : block.first + block.rows].any()]
        self.sizes = sorted({block.size for block in self.blocks})
        self.batch_size, self.seed, self.window = batch_size, seed, window
        self._kept = kept
        numbers = {size: number for number, size in enumerate(self.sizes)}
        self._size_of = np.zeros(len(kept), np.int16)
        for block in self.blocks:
            self._size_of[block.first : block.first + block.rows] = numbers[block.size]
        self._counts = np.bincount(self._size_of[kept], minlength=len(self.sizes)).astype(np.int64)
        self._epoch = lru_cache(maxsize=4)(self._plan_epoch)

    def __len__(self) -> int:
        """Samples in an epoch."""
        return int(self._counts.sum())

    def at(self, step: int) -> np.ndarray:
        """Indices in the split ``(batch_size,)`` of samples of one size."""
        size, turn = self._drawn(step)
        places = np.arange(turn * self.batch_size, (turn + 1) * self.batch_size)
        epochs, within = np.divmod(places, self._counts[size])
        return np.concatenate([self._epoch(int(epoch)).members[size][within[epochs == epoch]] for epoch in np.unique(epochs)])

    def size_at(self, step: int) -> tuple[int, int]:
        """Width and height of the step's images."""
        return self.sizes[self._drawn(step)[0]]

    def _drawn(self, step: int) -> tuple[int, int]:
        """Which size the step is of, and how many batches of that size came before."""
        epoch = step * self.batch_size // len(self)
        while self._complete_before(epoch + 1) <= step:
            epoch += 1
        found, place = self._epoch(epoch), step - self._complete_before(epoch)
        return int(found.sizes[place]), int(found.turns[place])

    def _complete_before(self, epoch: int) -> int:
        """Batches that are complete when the epoch begins."""
        return int((self._counts * epoch // self.batch_size).sum())

    def _plan_epoch(self, epoch: int) -> _Epoch:
        order = epoch_indices(self.blocks, self.seed, epoch, self.window)
        order = order[self._kept[order]]
        sizes = self._size_of[order]
        places = [np.flatnonzero(sizes == number) for number in range(len(self.sizes))]
        turns, waiting = np.divmod(self._counts * epoch, self.batch_size)
        ends = [place[self.batch_size - 1 - left :: self.batch_size] for place, left in zip(places, waiting, strict=True)]
        by_end = np.argsort(np.concatenate(ends))
        return _Epoch(
            members=[order[place] for place in places],
            sizes=np.repeat(np.arange(len(ends)), [len(end) for end in ends])[by_end],
            turns=np.concatenate([turn + np.arange(len(end)) for turn, end in zip(turns, ends, strict=True)])[by_end],
        )
