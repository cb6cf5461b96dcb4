"""What the network sees of captions and images: embeddings and latents, encoded once and kept by content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.encoded_cache import EncodedCache, Entries, Entry, content_key
from models.training.families.base import ImageCoder, TextCoder
from models.training.provenance import encoding_version

TEXT_BATCH = 32  #: texts encoded at a time, always as many: the last bits of an embedding may depend on how many there were
IMAGE_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What turns samples into what the network sees, and where that is kept."""

    texts: TextCoder
    images: ImageCoder | None = None  #: None: the network works on pixels
    cache: Path | None = None  #: None: in memory


@dataclass(frozen=True)
class TextRows:
    """Embeddings by row, read when they are asked for."""

    entries: Entries

    def __getitem__(self, rows: Sequence[int]) -> TextEmbeddings:
        found = [self.entries[row] for row in rows]
        return TextEmbeddings(*(torch.stack([entry[name] for entry in found]) for name in ("tokens", "mask", "pooled")))


def encode_texts(texts: Sequence[str], encoders: Encoders) -> TextRows:
    """An embedding is the same to the last bit whatever other texts there are, so that one found in the cache changes nothing."""
    coder = encoders.texts

    def encode(places: list[int]) -> Iterator[tuple[int, Entry]]:
        by_count: dict[int, list[int]] = defaultdict(list)
        for place in places:
            by_count[coder.token_count(texts[place])].append(place)
        for group in by_count.values():
            for batch, filled in _filled(group, TEXT_BATCH):
                made = coder.encode([texts[place] for place in filled])
                for row, place in enumerate(batch):
                    yield place, {"tokens": made.tokens[row].cpu(), "mask": made.mask[row].cpu(), "pooled": made.pooled[row].cpu()}

    cache = EncodedCache(encoders.cache, "text", f"{coder.identity}-{encoding_version()}")
    return TextRows(cache.keep([content_key(text) for text in texts], encode))


def as_pixels(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """(B, 3, height, width) in -1..1 from (height, width, 3) uint8 each."""
    stacked = np.ascontiguousarray(np.stack(list(images)).transpose(0, 3, 1, 2))
    return torch.from_numpy(stacked).float() / 127.5 - 1


def encode_images(
    digests: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    read: Callable[[Sequence[int]], list[np.ndarray]],
    coder: ImageCoder,
    cache: Path | None,
) -> Entries:
    """Their latents, each under ``latents``.

    :param digests: of each image's file, by which what is computed from it is found again
    :param sizes: width and height of each
    :param read: decodes the images of some positions
    """

    def encode(places: list[int]) -> Iterator[tuple[int, Entry]]:
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place in places:
            by_size[sizes[place]].append(place)
        for group in by_size.values():
            for batch, filled in _filled(group, IMAGE_BATCH):
                latents = coder.encode(as_pixels(read(filled)))
                yield from ((place, {"latents": latents[row].cpu()}) for row, place in enumerate(batch))

    kept = EncodedCache(cache, "latents", f"{coder.identity}-{encoding_version()}")
    crops = (f"{height}x{width}" for width, height in sizes)
    return kept.keep([content_key(digest, crop) for digest, crop in zip(digests, crops, strict=True)], encode)


def _filled(places: list[int], size: int) -> Iterator[tuple[list[int], list[int]]]:
    """Batches, and each filled up to ``size`` with its first."""
    for start in range(0, len(places), size):
        batch = places[start : start + size]
        yield batch, batch + [batch[0]] * (size - len(batch))
