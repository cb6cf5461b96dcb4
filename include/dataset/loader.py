"""Reading a split of a dataset version. Training reads by the same functions and may not import this package, so they live there."""

from __future__ import annotations

from models.training.samples import SPLITS, Split, batch_indices, epoch_order, load_split, read_manifest

__all__ = ["SPLITS", "Split", "batch_indices", "epoch_order", "load_split", "read_manifest"]
