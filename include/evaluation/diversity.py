"""How much images of a set differ from each other."""

from __future__ import annotations

import numpy as np


def vendi_score(features: np.ndarray) -> float:
    """Effective number of different images among rows ``(N, d)``: 1 where all are the same, N where no two have anything in common.

    Exponential of the entropy of the eigenvalues of the cosine kernel over N (Friedman & Dieng 2023).
    """
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    shares = np.clip(np.linalg.eigvalsh(rows @ rows.T / len(rows)), 1e-12, None)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_pairwise_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance of two different rows, over √d. Raises :class:`ZeroDivisionError` for a single row."""
    squares = (features**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0))
    return float(distances.sum() / (len(features) * (len(features) - 1)) / features.shape[1] ** 0.5)
