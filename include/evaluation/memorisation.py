"""Whether images are new or those trained on, by their nearest training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

QUANTILE = 0.05  #: of held-out samples, the nearest ones: what lies nearer than they do counts as memorised


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Nearest training images of rendered ones."""

    nearest: np.ndarray  #: (N,) row of the training features
    distances: np.ndarray  #: (N,) in units of √d, so that two unrelated images are about 1.4 apart
    threshold: float  #: distance below which an image counts as memorised

    @property
    def share(self) -> float:
        """Of the rendered images, in 0..1."""
        return float((self.distances < self.threshold).mean())

    @property
    def share_error(self) -> float:
        """Standard error of the share, by the rule of succession so that 0 of few is not certain."""
        count = len(self.distances)
        share = (self.share * count + 1) / (count + 2)
        return float((share * (1 - share) / (count + 2)) ** 0.5)


def memorisation(rendered: np.ndarray, train: np.ndarray, held_out: np.ndarray, quantile: float = QUANTILE) -> Memorisation:
    """Compares rows ``(N, d)`` of features with those of the training images.

    An image is taken for memorised where it is nearer to a training image than all but ``quantile`` of the held-out images are, which no
    training can have made so (after Somepalli et al. 2023, with a threshold that is calibrated instead of chosen).
    """
    nearest, distances = _nearest(rendered, train)
    _, usual = _nearest(held_out, train)
    return Memorisation(nearest=nearest, distances=distances, threshold=float(np.quantile(usual, quantile)))


def _nearest(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    index = squares.argmin(axis=1)
    return index, np.sqrt(np.maximum(squares[np.arange(len(rows)), index], 0) / rows.shape[1])
