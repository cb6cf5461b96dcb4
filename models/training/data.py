"""A split as training uses it: pixels in memory, captions as embeddings, batches that are a function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import TextEmbeddings, encode_all
from models.training.config import TrainingConfig
from models.training.samples import Split, batch_indices, load_split


@dataclass(frozen=True)
class EncodedSplit:
    """Captions are encoded once, equal ones together; row 0 of ``text`` is the empty caption."""

    images: Tensor  #: (N, 3, H, W) uint8
    captions: list[list[int]]  #: rows of ``text`` for each sample, the main caption first
    text: TextEmbeddings
    digest: str

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: np.ndarray | slice) -> Tensor:
        """Float images in -1..1."""
        return self.images[indices].float() / 127.5 - 1

    def main_text(self, indices: Sequence[int] | np.ndarray) -> TextEmbeddings:
        return self.text[torch.tensor([self.captions[index][0] for index in indices])]


def load_encoded(
    manifest: Path | str,
    split: str,
    config: TrainingConfig,
    encoder: BertModel,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    limit: int | None = None,
) -> EncodedSplit:
    """Raises :class:`ValueError` when nothing is left to train on."""
    samples = load_split(manifest, split).without(config.exclude)
    if not len(samples):
        raise ValueError(f"exclude: no sample of the split {split} of {manifest} is left")
    return encode_split(samples.subset(list(range(len(samples)))[:limit]), encoder, tokenizer, length)


def encode_split(samples: Split, encoder: BertModel, tokenizer: PreTrainedTokenizerBase, length: int) -> EncodedSplit:
    texts = ["", *dict.fromkeys(caption for captions in samples.captions for caption in captions)]
    rows = {text: row for row, text in enumerate(texts)}
    images = torch.from_numpy(np.ascontiguousarray(samples.images.transpose(0, 3, 1, 2)))
    captions = [[rows[caption] for caption in captions] for captions in samples.captions]
    return EncodedSplit(images, captions, encode_all(encoder, tokenizer, texts, length), samples.digest)


@dataclass(frozen=True)
class Batch:
    images: Tensor  #: (B, 3, H, W) in -1..1
    text: TextEmbeddings
    sigmas: Tensor  #: (B,)
    noise: Tensor  #: like ``images``


def batch_at(data: EncodedSplit, config: TrainingConfig, step: int) -> Batch:
    """The batch of a step, with its captions, noise levels and noise: the same whenever it is asked for."""
    indices = batch_indices(len(data), config.batch_size, config.seed, step)
    draw = np.random.default_rng((config.seed, step, 1))
    rows = [_choose_caption(data.captions[index], config, draw) for index in indices]
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    images = data.pixels(indices)
    sigmas = torch.sigmoid(config.sigma_mean + config.sigma_std * torch.randn(len(indices), generator=generator))
    return Batch(images, data.text[torch.tensor(rows)], sigmas, torch.randn(images.shape, generator=generator))


def _choose_caption(rows: list[int], config: TrainingConfig, draw: np.random.Generator) -> int:
    dropped, alternative, which = draw.random(3)
    if dropped < config.caption_dropout:
        return 0
    if len(rows) > 1 and alternative < config.alternative_captions:
        return rows[1 + int(which * (len(rows) - 1))]
    return rows[0]
