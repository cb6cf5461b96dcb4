"""Distances between sets of features."""

from __future__ import annotations

import numpy as np


def kernel_distance(first: np.ndarray, second: np.ndarray, *, paired: bool = False) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018).

    0 for two sets from one distribution, on average; it may come out a little below. Both ``(N, d)``, each with at least two rows.

    :param paired: rows at one place depend on each other, as an image and the one that its caption is of do; they are not compared, which
        keeps the estimate unbiased (Gretton et al. 2012, Lemma 6), where copies would come out far below 0
    """
    if len(first) < 2 or len(second) < 2:
        raise ValueError(f"kernel distance needs two images a side at least; got {len(first)} and {len(second)}")
    within = _mean_off_diagonal(_kernel(first, first)) + _mean_off_diagonal(_kernel(second, second))
    between = _kernel(first, second)
    return float(within - 2 * (_mean_off_diagonal(between) if paired else between.mean()))


def kernel_distance_error(first: np.ndarray, second: np.ndarray, rounds: int = 20, seed: int = 0, *, paired: bool = False) -> float:
    """Standard deviation of the distance over random halves of both sets, scaled to the whole sets; 0 where halves are too small."""
    if min(len(first), len(second)) < 4:
        return 0.0
    draw = np.random.default_rng(seed)
    halves = []
    for _ in range(rounds):
        one = draw.permutation(len(first))[: len(first) // 2]
        other = one if paired else draw.permutation(len(second))[: len(second) // 2]
        halves.append(kernel_distance(first[one], second[other], paired=paired))
    return float(np.std(halves) / 2**0.5)


def own_image_rate(rendered: np.ndarray, reference: np.ndarray, nearest: int = 1) -> float:
    """Share of ``rendered`` whose own image, the row of ``reference`` at the same place, is among the ``nearest`` rows."""
    distances = np.linalg.norm(rendered[:, None] - reference[None], axis=2)
    own = np.diagonal(distances)[:, None]
    return float(((distances < own).sum(axis=1) < nearest).mean())


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
