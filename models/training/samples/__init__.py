"""The samples of a prepared dataset version: a split whole in memory, as a stream, or batch by batch.

Whatever reads many samples reads them by row groups, in the order of :mod:`.order`.
"""

from __future__ import annotations

from models.training.samples.split import SPLITS, Split, load_buckets, load_split, one_a_caption, read_manifest

__all__ = ["SPLITS", "Split", "load_buckets", "load_split", "one_a_caption", "read_manifest"]
