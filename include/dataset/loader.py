"""Reading a split of a dataset version: whole into memory, or as a stream.

Training reads by the same functions and may not import this package, so they live there.
"""

from __future__ import annotations

from pathlib import Path

from include.dataset.trees import read_range
from models.training.samples import SPLITS, Split, load_split, read_manifest
from models.training.samples.files import GIB, FileCache
from models.training.samples.stream import Sample, SampleStream

__all__ = ["SPLITS", "FileCache", "Sample", "SampleStream", "Split", "load_split", "platform_cache", "read_manifest"]


def platform_cache(folder: Path, limit: int = 50 * GIB) -> FileCache:
    """A cache of files of the platform's own S3, whose endpoint and keys are in its settings."""
    return FileCache(folder, limit, read_range)
