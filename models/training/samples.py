"""Reading a split of a prepared dataset version: its manifest and Parquet shards."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A whole split in memory, in the order of the manifest."""

    digest: str  #: of the dataset version
    images: np.ndarray  #: (N, size, size, 3) uint8
    captions: list[list[str]]  #: for each sample its captions, the main one first
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def subset(self, indices: list[int]) -> Split:
        captions, keys = [self.captions[index] for index in indices], [self.keys[index] for index in indices]
        return Split(digest=self.digest, images=self.images[indices], captions=captions, keys=keys)

    def without(self, pattern: str) -> Split:
        """The samples of which neither the key nor a caption matches the regular expression ``pattern``; all when it is empty."""
        if not pattern:
            return self
        texts = ([key, *captions] for key, captions in zip(self.keys, self.captions, strict=True))
        return self.subset([index for index, words in enumerate(texts) if not any(re.search(pattern, word) for word in words)])


def read_manifest(manifest: Path | str) -> dict[str, Any]:
    """Raises :class:`FileNotFoundError`, or :class:`ValueError` for what is not a manifest."""
    content = json.loads(Path(manifest).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("kind") != "atelier-dataset":
        raise ValueError(f"{manifest} is not a dataset manifest")
    return content


def load_split(manifest: Path | str, split: str) -> Split:
    """Decodes a split once. Raises :class:`ValueError` for an unknown split or a shard whose digest is not the manifest's."""
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    content = read_manifest(manifest)
    tables = [_verified(Path(manifest).parent / entry["file"], entry["sha256"]) for entry in content["files"].get(split, ())]
    rows = pa.concat_tables(tables).select(["key", "image", "captions"]).to_pylist() if tables else []
    images = np.zeros((len(rows), content["size"], content["size"], 3), np.uint8)
    for index, row in enumerate(rows):
        images[index] = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
    return Split(digest=content["digest"], images=images, captions=[row["captions"] for row in rows], keys=[row["key"] for row in rows])


def _verified(path: Path, sha256: str) -> pa.Table:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is not the file of the manifest: its digest differs")
    return pq.read_table(io.BytesIO(data))


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits ``count`` samples: the same for the same seed and epoch, everywhere."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The samples of a step. A function of the step alone, so that a resumed run goes on in the middle of an epoch."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    orders = {epoch: epoch_order(count, seed, int(epoch)) for epoch in np.unique(positions // count)}
    return np.array([orders[position // count][position % count] for position in positions])
