"""A split as training uses it: latents in memory, captions as embeddings, batches that are a function of the step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import TextEmbeddings
from models.training.config import TrainingConfig
from models.training.encoded_cache import EncodedCache, Entry, content_key
from models.training.families.base import ImageCoder, TextCoder
from models.training.families.hourglass import TokenStates
from models.training.objectives.base import Objective
from models.training.provenance import encoding_version
from models.training.samples import Split, batch_indices, bucket_at, load_buckets

TEXT_BATCH = 32  #: texts encoded at a time, always as many: the last bits of an embedding may depend on how many there were
IMAGE_BATCH = 8


@dataclass(frozen=True)
class EncodedSplit:
    """Samples of one size. Captions are encoded once, equal ones together; row 0 of ``text`` is the empty caption."""

    images: Tensor  #: (N, C, H, W): uint8 pixels, or float latents
    captions: list[list[int]]  #: rows of ``text`` for each sample, the main caption first
    text: TextEmbeddings
    digest: str

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: np.ndarray | slice) -> Tensor:
        """Float images in -1..1, or latents as they are."""
        images = self.images[indices]
        return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images

    def main_text(self, indices: Sequence[int] | np.ndarray) -> TextEmbeddings:
        return self.text[torch.tensor([self.captions[index][0] for index in indices])]


@dataclass(frozen=True)
class TrainingData:
    """A split by the size of its images; a batch is of one size."""

    buckets: list[EncodedSplit]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    @property
    def digest(self) -> str:
        return self.buckets[0].digest

    @property
    def unconditional(self) -> TextEmbeddings:
        return self.buckets[0].text[:1]


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What turns samples into what the network sees, and where that is kept."""

    texts: TextCoder
    images: ImageCoder | None = None  #: None: the network works on pixels
    cache: Path | None = None


def load_encoded(
    manifest: Path | str,
    split: str,
    config: TrainingConfig,
    encoder: BertModel,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    limit: int | None = None,
) -> EncodedSplit:
    """The most frequent size of a split, for a network on pixels. Raises :class:`ValueError` when nothing is left to train on."""
    return load_data(manifest, split, config, Encoders(texts=TokenStates(encoder, tokenizer, length)), limit).buckets[0]


def load_data(manifest: Path | str, split: str, config: TrainingConfig, encoders: Encoders, limit: int | None = None) -> TrainingData:
    """Raises :class:`ValueError` for a split without samples, or one whose every sample the settings leave out.

    :param limit: samples of each size at most
    """
    found = load_buckets(manifest, split)
    if not any(map(len, found)):
        raise ValueError(f"dataset: the split {split} of {manifest} has no samples; prepare a version with a larger share for {split}")
    buckets = [part.without(config.exclude) for part in found]
    buckets = [part.subset(list(range(len(part)))[:limit]) for part in buckets if len(part)]
    if not buckets:
        raise ValueError(f"exclude: no sample of the split {split} of {manifest} is left")
    return encode_buckets(buckets, encoders)


def encode_buckets(buckets: Sequence[Split], encoders: Encoders) -> TrainingData:
    texts = ["", *dict.fromkeys(caption for part in buckets for captions in part.captions for caption in captions)]
    rows = {text: row for row, text in enumerate(texts)}
    text = encode_texts(texts, encoders)
    return TrainingData(
        [
            EncodedSplit(encode_images(part, encoders), [[rows[one] for one in captions] for captions in part.captions], text, part.digest)
            for part in buckets
        ]
    )


def encode_texts(texts: Sequence[str], encoders: Encoders) -> TextEmbeddings:
    """An embedding is the same to the last bit whatever other texts there are, so that one found in the cache changes nothing."""
    coder = encoders.texts

    def encode(places: list[int]) -> Iterator[tuple[int, Entry]]:
        by_count: dict[int, list[int]] = defaultdict(list)
        for place in places:
            by_count[coder.token_count(texts[place])].append(place)
        for group in by_count.values():
            for start in range(0, len(group), TEXT_BATCH):
                batch = group[start : start + TEXT_BATCH]
                filled = [texts[place] for place in batch] + [texts[batch[0]]] * (TEXT_BATCH - len(batch))
                made = coder.encode(filled)
                for row, place in enumerate(batch):
                    yield place, {"tokens": made.tokens[row], "mask": made.mask[row], "pooled": made.pooled[row]}

    cache = EncodedCache(encoders.cache, "text", f"{coder.identity}-{encoding_version()}")
    entries = cache.get([content_key(text) for text in texts], encode)
    return TextEmbeddings(*(torch.stack([entry[name] for entry in entries]) for name in ("tokens", "mask", "pooled")))


def encode_images(part: Split, encoders: Encoders) -> Tensor:
    """``(N, 3, H, W)`` uint8 pixels, or latents where the network works on those."""
    pixels = torch.from_numpy(np.ascontiguousarray(part.images.transpose(0, 3, 1, 2)))
    coder = encoders.images
    if coder is None:
        return pixels

    def encode(places: list[int]) -> Iterator[tuple[int, Entry]]:
        for start in range(0, len(places), IMAGE_BATCH):
            batch = places[start : start + IMAGE_BATCH]
            filled = batch + [batch[0]] * (IMAGE_BATCH - len(batch))
            latents = coder.encode(pixels[filled].float() / 127.5 - 1)
            yield from ((place, {"latents": latents[row].cpu()}) for row, place in enumerate(batch))

    cache = EncodedCache(encoders.cache, "latents", f"{coder.identity}-{encoding_version()}")
    crop = f"{pixels.shape[2]}x{pixels.shape[3]}"
    entries = cache.get([content_key(source, crop) for source in part.sources], encode)
    return torch.stack([entry["latents"] for entry in entries])


@dataclass(frozen=True)
class Batch:
    images: Tensor  #: (B, C, H, W) pixels in -1..1, or latents
    text: TextEmbeddings
    levels: Tensor  #: (B,) noise levels, in the objective's units
    noise: Tensor  #: like ``images``

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.images[part], self.text[part], self.levels[part], self.noise[part])

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """There, with the text in the network's arithmetic."""
        return Batch(self.images.to(device), self.text.to(device).to(dtype), self.levels.to(device), self.noise.to(device))


def batch_at(data: TrainingData, config: TrainingConfig, objective: Objective, step: int) -> Batch:
    """The batch of a step, with its captions, noise levels and noise: the same whenever it is asked for."""
    chosen, turn = bucket_at([len(bucket) for bucket in data.buckets], config.batch_size, config.seed, step)
    bucket = data.buckets[chosen]
    indices = batch_indices(len(bucket), config.batch_size, config.seed, turn)
    draw = np.random.default_rng((config.seed, step, 1))
    rows = [_choose_caption(bucket.captions[index], config, draw) for index in indices]
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    images = bucket.pixels(indices)
    levels = objective.draw_levels(len(indices), generator)
    return Batch(images, bucket.text[torch.tensor(rows)], levels, torch.randn(images.shape, generator=generator))


def _choose_caption(rows: list[int], config: TrainingConfig, draw: np.random.Generator) -> int:
    dropped, alternative, which = draw.random(3)
    if dropped < config.caption_dropout:
        return 0
    if len(rows) > 1 and alternative < config.alternative_captions:
        return rows[1 + int(which * (len(rows) - 1))]
    return rows[0]
