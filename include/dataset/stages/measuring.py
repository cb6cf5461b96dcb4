"""Stage ``measure``: numbers by which images are filtered and told apart. Limits on them are applied when a version is published."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.stages.batches import Staged, each_row


def measure(table: pa.Table, config: DatasetConfig) -> Staged:
    """Adds the digest of the pixels, the entropy of the grey histogram in bits and the variance of the Laplacian."""
    return each_row(table, _measured, adds=[("sha256", pa.string()), ("entropy", pa.float32()), ("sharpness", pa.float32())])


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    grey = Image.frombuffer("RGB", (row["width"], row["height"]), row["pixels"], "raw", "RGB", 0, 1).convert("L")
    digest = hashlib.sha256(row["pixels"]).hexdigest()
    return {"sha256": digest, "entropy": entropy(np.array(grey.histogram())), "sharpness": sharpness(np.asarray(grey))}


def entropy(histogram: np.ndarray) -> float:
    """In bits, of the counts of 256 levels of grey."""
    shares = histogram[histogram > 0] / histogram.sum()
    return float(-(shares * np.log2(shares)).sum())


def sharpness(grey: np.ndarray) -> float:
    """Pech-Pacheco et al. (2000), "Diatom autofocusing in brightfield microscopy"."""
    values = grey.astype(np.int16)
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1]
    laplacian += values[1:-1, :-2]
    laplacian += values[1:-1, 2:]
    laplacian -= 4 * values[1:-1, 1:-1]
    count = max(laplacian.size, 1)
    # Whole numbers, so that the sums are exact; and no matrix product, whose threads would be in the way of the other shards'.
    squares = int(np.multiply(laplacian, laplacian, dtype=np.int32).sum(dtype=np.int64))
    return (squares - int(laplacian.sum(dtype=np.int64)) ** 2 / count) / count
