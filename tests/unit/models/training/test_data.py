from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import TextEmbeddings
from models.training import data as module
from models.training.config import TrainingConfig
from models.training.data import Encoders, TrainingData, batch_at, encode_texts, load_data, load_encoded
from models.training.families.hourglass import TokenStates
from models.training.objectives.flow_matching import FlowMatching
from models.training.samples import read_manifest

Encoder = tuple[BertModel, PreTrainedTokenizerBase]
FLOW = FlowMatching()


class Counting:
    """A text coder that keeps count of what it was asked for."""

    def __init__(self, coder: TokenStates) -> None:
        self.coder, self.identity, self.encoded = coder, coder.identity, set[str]()

    def token_count(self, text: str) -> int:
        return self.coder.token_count(text)

    def encode(self, texts: Sequence[str]) -> TextEmbeddings:
        self.encoded |= set(texts)
        return self.coder.encode(texts)


@pytest.fixture(scope="session")
def data(manifest: Path, text_encoder: Encoder) -> TrainingData:
    return load_data(manifest, "train", TrainingConfig(), Encoders(texts=TokenStates(*text_encoder, 16)))


def test_a_batch_is_a_function_of_the_step(data: TrainingData) -> None:
    config = TrainingConfig(batch_size=8)
    first, again, following = (batch_at(data, config, FLOW, step) for step in (5, 5, 6))
    for name in ("images", "levels", "noise"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(following, name))
    assert torch.equal(first.text.tokens, again.text.tokens)
    assert -1 <= first.images.min() < first.images.max() <= 1
    assert ((first.levels > 0) & (first.levels < 1)).all()


def test_captions_are_dropped_and_exchanged_as_often_as_configured(data: TrainingData) -> None:
    (bucket,) = data.buckets
    empty, main = bucket.text.pooled[0], {tuple(bucket.text.pooled[captions[0]].tolist()) for captions in bucket.captions}
    all_dropped = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=1.0), FLOW, 0)
    assert (all_dropped.text.pooled == empty).all()
    none_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=0.0), FLOW, 0)
    assert {tuple(row.tolist()) for row in none_changed.text.pooled} <= main
    all_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=1.0), FLOW, 0)
    assert not {tuple(row.tolist()) for row in all_changed.text.pooled} & main


def test_nothing_left_is_an_error(manifest: Path, text_encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="exclude"):
        load_encoded(manifest, "train", TrainingConfig(exclude="."), *text_encoder, 16)


def test_a_split_without_samples_is_an_error_that_names_it(manifest: Path, text_encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"the split test of .* has no samples"):
        load_encoded(manifest, "test", TrainingConfig(), *text_encoder, 16)


def test_an_embedding_is_the_same_to_the_last_bit_whatever_is_encoded_with_it(text_encoder: Encoder) -> None:
    encoders = Encoders(texts=TokenStates(*text_encoder, 16))
    texts = ["red heart", "a blue heart", "pizza", "grinning face with big eyes", *(f"number {count}" for count in range(70))]
    together = encode_texts(texts, encoders)
    for place in (0, 3, 40, 73):
        alone = encode_texts([texts[place]], encoders)
        assert torch.equal(alone.tokens[0], together.tokens[place])
        assert torch.equal(alone.pooled[0], together.pooled[place])


def test_one_edited_caption_is_encoded_alone(text_encoder: Encoder, tmp_path: Path) -> None:
    coder = Counting(TokenStates(*text_encoder, 16))
    encoders = Encoders(texts=coder, cache=tmp_path)
    first = encode_texts(["red square", "blue square", "green square"], encoders)
    assert coder.encoded == {"red square", "blue square", "green square"}
    coder.encoded.clear()
    second = encode_texts(["red square", "blue box", "green square"], encoders)
    assert coder.encoded == {"blue box"}
    assert torch.equal(first.tokens[[0, 2]], second.tokens[[0, 2]])


def test_other_weights_find_nothing_of_the_first_ones(text_encoder: Encoder, tmp_path: Path) -> None:
    coder = Counting(TokenStates(*text_encoder, 16))
    encode_texts(["red square"], Encoders(texts=coder, cache=tmp_path))
    coder.identity, coder.encoded = "other weights", set()
    encode_texts(["red square"], Encoders(texts=coder, cache=tmp_path))
    assert coder.encoded == {"red square"}


def test_a_new_version_of_the_code_encodes_anew(text_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coder = Counting(TokenStates(*text_encoder, 16))
    encode_texts(["red square"], Encoders(texts=coder, cache=tmp_path))
    coder.encoded.clear()
    monkeypatch.setattr(module, "encoding_version", lambda: "newer")
    encode_texts(["red square"], Encoders(texts=coder, cache=tmp_path))
    assert coder.encoded == {"red square"}


def test_the_limit_is_kept(manifest: Path, text_encoder: Encoder) -> None:
    assert len(load_encoded(manifest, "train", TrainingConfig(), *text_encoder, 16, limit=3)) == 3


def test_a_changed_shard_is_refused(manifest: Path, text_encoder: Encoder, tmp_path: Path) -> None:
    copy = shutil.copytree(manifest.parent, tmp_path / "copy")
    shard = copy / read_manifest(manifest)["files"]["train"][0]["file"]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="digest differs"):
        load_encoded(copy / "manifest.json", "train", TrainingConfig(), *text_encoder, 16)
