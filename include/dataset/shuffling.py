"""The order in which an epoch visits samples: at random, yet never far from what has just been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
