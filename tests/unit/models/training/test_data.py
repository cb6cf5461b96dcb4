from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertModel, PreTrainedTokenizerBase

from models.training.config import TrainingConfig
from models.training.data import EncodedSplit, batch_at, load_encoded

Encoder = tuple[BertModel, PreTrainedTokenizerBase]


@pytest.fixture(scope="session")
def data(manifest: Path, text_encoder: Encoder) -> EncodedSplit:
    return load_encoded(manifest, "train", TrainingConfig(), *text_encoder, 16)


def test_a_batch_is_a_function_of_the_step(data: EncodedSplit) -> None:
    config = TrainingConfig(batch_size=8)
    first, again, following = batch_at(data, config, 5), batch_at(data, config, 5), batch_at(data, config, 6)
    for name in ("images", "sigmas", "noise"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(following, name))
    assert torch.equal(first.text.tokens, again.text.tokens)
    assert -1 <= first.images.min() < first.images.max() <= 1
    assert ((first.sigmas > 0) & (first.sigmas < 1)).all()


def test_captions_are_dropped_and_exchanged_as_often_as_configured(data: EncodedSplit) -> None:
    empty, main = data.text.pooled[0], {tuple(data.text.pooled[captions[0]].tolist()) for captions in data.captions}
    all_dropped = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=1.0), 0)
    assert (all_dropped.text.pooled == empty).all()
    none_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=0.0), 0)
    assert {tuple(row.tolist()) for row in none_changed.text.pooled} <= main
    all_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=1.0), 0)
    assert not {tuple(row.tolist()) for row in all_changed.text.pooled} & main


def test_nothing_left_is_an_error(manifest: Path, text_encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="exclude"):
        load_encoded(manifest, "train", TrainingConfig(exclude="."), *text_encoder, 16)
