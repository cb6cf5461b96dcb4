"""Reading a split of a dataset version: whole into memory, or as a stream.

Training reads whole splits by the same functions and may not import this package, so they live there.
"""

from __future__ import annotations

from include.dataset.file_cache import FileCache
from include.dataset.streaming import Sample, SampleStream
from models.training.samples import SPLITS, Split, batch_indices, epoch_order, load_split, read_manifest

__all__ = ["SPLITS", "FileCache", "Sample", "SampleStream", "Split", "batch_indices", "epoch_order", "load_split", "read_manifest"]
