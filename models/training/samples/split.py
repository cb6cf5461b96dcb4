"""Reading a split of a prepared dataset version: its manifest and Parquet shards."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from models.training.samples.files import FileCache, read_bytes

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples of one size in memory, in the order of the manifest."""

    digest: str  #: of the dataset version
    images: np.ndarray  #: (N, height, width, 3) uint8
    captions: list[list[str]]  #: for each sample its captions, the main one first
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def subset(self, indices: list[int]) -> Split:
        return Split(
            digest=self.digest,
            images=self.images[indices],
            captions=[self.captions[index] for index in indices],
            keys=[self.keys[index] for index in indices],
        )

    def without(self, pattern: str) -> Split:
        """The samples of which neither the key nor a caption matches the regular expression ``pattern``; all when it is empty."""
        if not pattern:
            return self
        texts = enumerate(zip(self.keys, self.captions, strict=True))
        return self.subset([index for index, (key, captions) in texts if not is_excluded(pattern, key, captions)])


def is_excluded(pattern: str, key: str, captions: list[str]) -> bool:
    """Whether the regular expression matches the key or a caption; an empty one never does."""
    return bool(pattern) and any(re.search(pattern, word) for word in (key, *captions))


def read_manifest(manifest: Path | str, read: Callable[[str], bytes] = read_bytes) -> dict[str, Any]:
    """Raises :class:`FileNotFoundError`, or :class:`ValueError` for what is not a manifest."""
    content = json.loads(read(str(manifest)))
    if not isinstance(content, dict) or content.get("kind") != "atelier-dataset":
        raise ValueError(f"{manifest} is not a dataset manifest")
    return content


def load_split(manifest: Path | str, split: str) -> Split:
    """Decodes a split whose images are all of one size.

    Raises :class:`ValueError` for an unknown split, a shard whose digest is not the manifest's, or images of several sizes.
    """
    found = load_buckets(manifest, split)
    if len(found) > 1:
        sizes = ", ".join(f"{one.images.shape[2]}x{one.images.shape[1]}" for one in found)
        raise ValueError(f"{split}: {manifest} has images of several sizes ({sizes}); read it with load_buckets")
    return found[0]


def load_buckets(manifest: Path | str, split: str) -> list[Split]:
    """A split by the size of its images, the most frequent size first; at least one part, which may be empty. Raises as above."""
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    content, files = read_manifest(manifest), FileCache(None)
    tables = [_verified(files, Path(manifest).parent / entry["file"], entry["sha256"]) for entry in content["files"].get(split, ())]
    rows = pa.concat_tables(tables).select(["key", "image", "captions"]).to_pylist() if tables else []
    by_size: dict[tuple[int, int], list[tuple[dict[str, Any], np.ndarray]]] = {}
    for row in rows:
        pixels = decode(row["image"])
        by_size.setdefault((pixels.shape[0], pixels.shape[1]), []).append((row, pixels))
    groups = sorted(by_size.items(), key=lambda group: (-len(group[1]), group[0]))
    return [_part(content["digest"], members) for _, members in groups] or [_empty(content["digest"], content["size"])]


def _part(digest: str, members: list[tuple[dict[str, Any], np.ndarray]]) -> Split:
    return Split(
        digest=digest,
        images=np.stack([pixels for _, pixels in members]),
        captions=[row["captions"] for row, _ in members],
        keys=[row["key"] for row, _ in members],
    )


def _empty(digest: str, size: int) -> Split:
    return Split(digest=digest, images=np.zeros((0, size, size, 3), np.uint8), captions=[], keys=[])


def _verified(files: FileCache, path: Path, sha256: str) -> pa.Table:
    return pq.read_table(files.local(str(path), sha256))


def decode(data: bytes) -> np.ndarray:
    """(height, width, 3) uint8."""
    image = Image.open(io.BytesIO(data))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def one_a_caption(samples: Split, seed: int) -> dict[str, int]:
    """First captions, each with the index of a sample that has it, in an order that the seed decides."""
    order = np.random.default_rng((seed, 0)).permutation(len(samples))
    return {samples.captions[index][0]: int(index) for index in order}
