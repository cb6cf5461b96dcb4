"""Stage ``classify``: a score that an installed classifier gives each image, such as how likely it is unsafe for work."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from include.dataset.config import DatasetConfig
from include.dataset.hooks import find_hook
from include.dataset.stages.batches import REJECTS, Staged


def classify(table: pa.Table, config: DatasetConfig) -> Staged:
    """Adds ``score``, 0 where no classifier is configured. The classifier takes a list of (H, W, 3) uint8 and returns a number for each."""
    scores: list[float] = [0.0] * table.num_rows
    if config.image_classifier and table.num_rows:
        shapes = zip(table["height"].to_pylist(), table["width"].to_pylist(), strict=True)
        cells = zip(table["pixels"], shapes, strict=True)
        images = [np.frombuffer(cell.as_buffer(), np.uint8).reshape(*shape, 3) for cell, shape in cells]
        scores = [float(score) for score in find_hook("atelier.image_classifiers", config.image_classifier)(images)]
    return Staged(kept=table.append_column("score", pa.array(scores, pa.float32())), rejected=pa.Table.from_pylist([], REJECTS))
