"""A dataset version as training uses it: batches that are a function of the step, read as they come, and a few held-out samples."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import TextEmbeddings
from models.training.config import TrainingConfig
from models.training.encoded_cache import Entries
from models.training.encoding import Encoders, TextRows, as_pixels, encode_images, encode_texts
from models.training.families.base import ImageCoder
from models.training.families.hourglass import TokenStates
from models.training.objectives.base import Objective
from models.training.samples.files import GIB, FileCache
from models.training.samples.order import BatchPlan, Block
from models.training.samples.split import is_excluded
from models.training.samples.stream import ImageBatches, ImageReader, RowGroups, image_digests

EVERY = slice(None)


class StepImages(Protocol):
    def at(self, step: int) -> Tensor:
        """(B, C, H, W) pixels in -1..1, or latents, of this process's share of a step."""


@dataclass(frozen=True)
class PixelSteps:
    batches: ImageBatches

    def at(self, step: int) -> Tensor:
        return as_pixels(self.batches.at(step))


@dataclass(frozen=True)
class LatentSteps:
    plan: BatchPlan
    latents: Entries
    place: np.ndarray  #: in ``latents``, of each sample of the split
    share: slice

    def at(self, step: int) -> Tensor:
        return torch.stack([self.latents[place]["latents"] for place in self.place[self.plan.at(step)[self.share]].tolist()])


class CaptionRows:
    """Which embeddings a sample's captions have, the main one's first; four bytes a caption."""

    def __init__(self) -> None:
        self._rows, self._ends = array("i"), array("q", [0])

    def append(self, rows: Sequence[int]) -> None:
        self._rows.extend(rows)
        self._ends.append(len(self._rows))

    def __getitem__(self, sample: int) -> Sequence[int]:
        return self._rows[self._ends[sample] : self._ends[sample + 1]]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The samples of a split that are used, without their images."""

    groups: RowGroups
    kept: np.ndarray  #: (rows of the split,) true for those samples
    texts: list[str]  #: their captions, equal ones once; the first is the empty caption
    captions: CaptionRows  #: of every sample of the split; empty for those that are not used

    @property
    def indices(self) -> np.ndarray:
        return np.flatnonzero(self.kept)

    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each of :attr:`indices`."""
        return [block.size for block in self.groups.blocks for _ in range(int(self.kept[_rows(block)].sum()))]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Images are read when a step asks for them, embeddings and latents from where they are kept."""

    digest: str  #: of the dataset version
    plan: BatchPlan
    images: StepImages
    captions: CaptionRows
    text: TextRows  #: row 0 is the empty caption
    share: slice  #: which samples of a step are this process's

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def unconditional(self) -> TextEmbeddings:
        return self.text[[0]]


@dataclass(frozen=True)
class EncodedSplit:
    """A few samples of one size in memory."""

    images: Tensor  #: (N, C, H, W): pixels in -1..1, or latents
    text: TextEmbeddings  #: of each sample's main caption
    digest: str

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class HeldOut:
    """By the size of their images, the most frequent first."""

    buckets: list[EncodedSplit]

    def __len__(self) -> int:
        return sum(map(len, self.buckets))


def file_cache(config: TrainingConfig, encoders: Encoders) -> FileCache:
    """Files of a bucket lie beside what was encoded of them."""
    return FileCache(encoders.cache and encoders.cache / "files", int(config.download_gib * GIB))


def load_data(manifest: Path | str, split: str, config: TrainingConfig, encoders: Encoders, share: slice = EVERY) -> TrainingData:
    """Raises :class:`ValueError` for a split without samples, or one whose every sample the settings leave out.

    :param share: which samples of a step are decoded, where several processes divide it among them
    """
    chosen = choose(RowGroups(manifest, split, file_cache(config, encoders)), config.exclude)
    plan = BatchPlan(chosen.groups.blocks, chosen.kept, config.batch_size, config.seed, config.shuffle_window)
    images: StepImages
    if encoders.images is None:
        images = PixelSteps(ImageBatches(chosen.groups, plan, config.loader_threads, share))
    else:
        latents = _latents(chosen, chosen.indices, chosen.sizes(), encoders.images, encoders.cache)
        images = LatentSteps(plan, latents, np.cumsum(chosen.kept) - 1, share)
    return TrainingData(
        digest=chosen.groups.digest,
        plan=plan,
        images=images,
        captions=chosen.captions,
        text=encode_texts(chosen.texts, encoders),
        share=share,
    )


def load_held_out(manifest: Path | str, split: str, config: TrainingConfig, encoders: Encoders, limit: int) -> HeldOut:
    """At most ``limit`` samples of each size. Raises as :func:`load_data` does."""
    chosen = choose(RowGroups(manifest, split, file_cache(config, encoders)), config.exclude, limit)
    text, sizes = encode_texts(chosen.texts, encoders), np.array(chosen.sizes())
    buckets = []
    for size in _by_frequency(chosen.groups.blocks):
        indices = chosen.indices[(sizes == size).all(axis=1)]
        if len(indices):
            images = _held_out_images(chosen, indices, size, encoders)
            captions = text[[chosen.captions[index][0] for index in indices.tolist()]]
            buckets.append(EncodedSplit(images, captions, chosen.groups.digest))
    return HeldOut(buckets)


def load_encoded(
    manifest: Path | str,
    split: str,
    config: TrainingConfig,
    encoder: BertModel,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    limit: int,
) -> EncodedSplit:
    """So many samples of the most frequent size, for a network on pixels. Raises :class:`ValueError` where there are none."""
    return load_held_out(manifest, split, config, Encoders(texts=TokenStates(encoder, tokenizer, length)), limit).buckets[0]


def choose(groups: RowGroups, exclude: str = "", limit: int | None = None) -> Chosen:
    """Reads the captions of a split. Raises :class:`ValueError` where no sample is left.

    :param limit: samples of each size at most
    """
    if not len(groups):
        raise ValueError(f"dataset: {groups.name} has no samples; prepare a version with a larger share for it")
    kept, captions, counts = np.zeros(len(groups), bool), CaptionRows(), Counter[tuple[int, int]]()
    rows = {"": 0}
    for block in groups.blocks:
        full = limit is not None and counts[block.size] >= limit
        read = [] if full else groups.read(block, ["key", "captions"]).to_pylist()
        for index in range(block.rows):
            row = read[index] if read else None
            use = row is not None and counts[block.size] != limit and not is_excluded(exclude, row["key"], row["captions"])
            counts[block.size] += use
            kept[block.first + index] = use
            captions.append([rows.setdefault(text, len(rows)) for text in row["captions"]] if row and use else [])
    if not kept.any():
        raise ValueError(f"exclude: no sample of {groups.name} is left")
    return Chosen(groups=groups, kept=kept, texts=list(rows), captions=captions)


def _by_frequency(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    counts = Counter[tuple[int, int]]()
    for block in blocks:
        counts[block.size] += block.rows
    return sorted(counts, key=lambda size: (-counts[size], size[::-1]))


def _held_out_images(chosen: Chosen, indices: np.ndarray, size: tuple[int, int], encoders: Encoders) -> Tensor:
    if encoders.images is None:
        return as_pixels(ImageReader(chosen.groups, 1).read(indices))
    latents = _latents(chosen, indices, [size] * len(indices), encoders.images, encoders.cache)
    return torch.stack([latents[place]["latents"] for place in range(len(latents))])


def _latents(chosen: Chosen, indices: np.ndarray, sizes: list[tuple[int, int]], coder: ImageCoder, cache: Path | None) -> Entries:
    reader = ImageReader(chosen.groups, 1)
    return encode_images(image_digests(reader, indices), sizes, lambda places: reader.read(indices[places]), coder, cache)


def _rows(block: Block) -> slice:
    return slice(block.first, block.first + block.rows)


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
    """This process's share of a step's batch, with its captions, noise levels and noise: the same whenever it is asked for."""
    indices = data.plan.at(step)
    draw = np.random.default_rng((config.seed, step, 1))
    rows = [_choose_caption(data.captions[index], config, draw) for index in indices.tolist()]
    images = data.images.at(step)
    # Drawn for the whole batch, so that it doesn't depend on how many processes share it.
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    levels = objective.draw_levels(len(indices), generator)
    noise = torch.randn((len(indices), *images.shape[1:]), generator=generator)
    return Batch(images, data.text[rows[data.share]], levels[data.share], noise[data.share])


def _choose_caption(rows: Sequence[int], config: TrainingConfig, draw: np.random.Generator) -> int:
    dropped, alternative, which = draw.random(3)
    if dropped < config.caption_dropout:
        return 0
    if len(rows) > 1 and alternative < config.alternative_captions:
        return rows[1 + int(which * (len(rows) - 1))]
    return rows[0]
