"""What an image looks like in numbers that need no trained network: where which colours are, and where edges run which way."""

from __future__ import annotations

import numpy as np

FEATURES = "colour-edge-1"  #: goes with each distance measured on them; distances on other features can't be compared
CELLS, ORIENTATIONS = 8, 8


def colour_edge_features(images: np.ndarray) -> np.ndarray:
    """``(N, H, W, 3)`` uint8 as ``(N, CELLS² · (3 + ORIENTATIONS))`` float64; H and W are multiples of ``CELLS``.

    For each cell of a grid the mean colour, and a histogram of gradient orientations weighted by magnitude (as in Dalal and Triggs 2005,
    without their block normalisation).
    """
    pixels = images.astype(np.float64) / 255
    colours = _cell_means(pixels)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    rise, run = np.gradient(grey, axis=(1, 2))
    orientation = np.floor((np.arctan2(rise, run) % np.pi) / np.pi * ORIENTATIONS).astype(int) % ORIENTATIONS
    edges = np.hypot(rise, run)[..., None] * (orientation[..., None] == np.arange(ORIENTATIONS))
    return np.concatenate([colours.reshape(len(images), -1), 4 * _cell_means(edges).reshape(len(images), -1)], axis=1)


def _cell_means(values: np.ndarray) -> np.ndarray:
    count, height, width, channels = values.shape
    return values.reshape(count, CELLS, height // CELLS, CELLS, width // CELLS, channels).mean(axis=(2, 4))
