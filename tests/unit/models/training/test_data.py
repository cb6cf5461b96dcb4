from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import TextEmbeddings
from models.training import encoding
from models.training.config import TrainingConfig
from models.training.data import PixelSteps, TrainingData, batch_at, load_data, load_encoded, load_held_out
from models.training.encoding import Encoders, as_pixels, encode_texts
from models.training.families.hourglass import TokenStates
from models.training.objectives.flow_matching import FlowMatching
from models.training.samples import load_buckets, load_split, read_manifest
from models.training.samples.stream import ImageBatches, RowGroups
from tests.support.tiny_dataset import write_tiny_dataset

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
    empty = data.unconditional.pooled[0]
    main = {tuple(data.text[[data.captions[index][0]]].pooled[0].tolist()) for index in range(len(data))}
    all_dropped = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=1.0), FLOW, 0)
    assert (all_dropped.text.pooled == empty).all()
    none_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=0.0), FLOW, 0)
    assert {tuple(row.tolist()) for row in none_changed.text.pooled} <= main
    all_changed = batch_at(data, TrainingConfig(batch_size=16, caption_dropout=0.0, alternative_captions=1.0), FLOW, 0)
    assert not {tuple(row.tolist()) for row in all_changed.text.pooled} & main


def test_nothing_left_is_an_error(manifest: Path, text_encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="exclude"):
        load_encoded(manifest, "train", TrainingConfig(exclude="."), *text_encoder, 16, 10)


def test_a_split_without_samples_is_an_error_that_names_it(manifest: Path, text_encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"the split test of .* has no samples"):
        load_encoded(manifest, "test", TrainingConfig(), *text_encoder, 16, 10)


def test_an_embedding_is_the_same_to_the_last_bit_whatever_is_encoded_with_it(text_encoder: Encoder) -> None:
    encoders = Encoders(texts=TokenStates(*text_encoder, 16))
    texts = ["red heart", "a blue heart", "pizza", "grinning face with big eyes", *(f"number {count}" for count in range(70))]
    together = encode_texts(texts, encoders)[range(len(texts))]
    for place in (0, 3, 40, 73):
        alone = encode_texts([texts[place]], encoders)[[0]]
        assert torch.equal(alone.tokens[0], together.tokens[place])
        assert torch.equal(alone.pooled[0], together.pooled[place])


def test_one_edited_caption_is_encoded_alone(text_encoder: Encoder, tmp_path: Path) -> None:
    coder = Counting(TokenStates(*text_encoder, 16))
    encoders = Encoders(texts=coder, cache=tmp_path)
    first = encode_texts(["red square", "blue square", "green square"], encoders)[range(3)]
    assert coder.encoded == {"red square", "blue square", "green square"}
    coder.encoded.clear()
    second = encode_texts(["red square", "blue box", "green square"], encoders)[range(3)]
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
    monkeypatch.setattr(encoding, "encoding_version", lambda: "newer")
    encode_texts(["red square"], Encoders(texts=coder, cache=tmp_path))
    assert coder.encoded == {"red square"}


def test_the_limit_is_kept(manifest: Path, text_encoder: Encoder) -> None:
    assert len(load_encoded(manifest, "train", TrainingConfig(), *text_encoder, 16, limit=3)) == 3


def test_held_out_samples_are_the_first_of_each_size_and_no_more_is_read(text_encoder: Encoder, tmp_path: Path) -> None:
    manifest = write_tiny_dataset(tmp_path / "data", {"validation": 300}, [(16, 16), (24, 16), (16, 16)])
    held_out = load_held_out(manifest, "validation", TrainingConfig(), Encoders(texts=TokenStates(*text_encoder, 16)), 5)
    assert [tuple(bucket.images.shape) for bucket in held_out.buckets] == [(5, 3, 16, 16), (5, 3, 16, 24)]
    assert len(held_out) == 10
    first, whole = held_out.buckets[0], load_buckets(manifest, "validation")[0]
    assert torch.equal(first.images, as_pixels(whole.images[:5]))


def test_samples_that_the_settings_leave_out_are_in_no_batch(manifest: Path, text_encoder: Encoder) -> None:
    config = TrainingConfig(batch_size=4, exclude="red|blue", caption_dropout=0.0)
    data = load_data(manifest, "train", config, Encoders(texts=TokenStates(*text_encoder, 16)))
    left = load_split(manifest, "train").without("red|blue")
    assert len(data) == len(left)
    seen = torch.cat([batch_at(data, config, FLOW, step).images for step in range(-(-len(data) // 4))])
    pixels = as_pixels(left.images)
    assert all((pixels == image).flatten(1).all(1).any() for image in seen)


def test_latents_come_from_where_they_are_kept_and_an_edited_image_is_encoded_alone(text_encoder: Encoder, tmp_path: Path) -> None:
    coder = Halves()
    encoders = Encoders(texts=TokenStates(*text_encoder, 16), images=coder, cache=tmp_path / "cache")
    manifest = write_tiny_dataset(tmp_path / "data", {"train": 20}, [(16, 16), (24, 16)])
    config = TrainingConfig(batch_size=4)
    first = load_data(manifest, "train", config, encoders)
    assert coder.encoded == 20
    load_data(manifest, "train", config, encoders)
    assert coder.encoded == 20
    for step in range(10):
        images = PixelSteps(ImageBatches(RowGroups(manifest), first.plan)).at(step)
        assert torch.equal(batch_at(first, config, FLOW, step).images, images[:, :, ::2, ::2])
    load_data(edited(manifest, tmp_path / "edited"), "train", config, encoders)
    assert coder.encoded == 21


class Halves:
    """Stands in for an autoencoder: every other pixel."""

    identity = "halves"

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += len({image.numpy().tobytes() for image in pixels})
        return pixels[:, :, ::2, ::2]


def edited(manifest: Path, target: Path) -> Path:
    """A copy of the version, with one pixel of one image changed."""
    content = json.loads(Path(shutil.copytree(manifest.parent, target) / "manifest.json").read_text())
    entry = content["files"]["train"][0]
    rows = pq.read_table(target / entry["file"]).to_pylist()
    image = Image.open(io.BytesIO(rows[3]["image"]))
    image.putpixel((0, 0), (1, 2, 3))
    data = io.BytesIO()
    image.save(data, "PNG")
    rows[3]["image"] = data.getvalue()
    pq.write_table(pa.Table.from_pylist(rows), target / entry["file"])
    entry["sha256"] = hashlib.sha256((target / entry["file"]).read_bytes()).hexdigest()
    (target / "manifest.json").write_text(json.dumps(content))
    return target / "manifest.json"


def test_a_changed_shard_is_refused(manifest: Path, text_encoder: Encoder, tmp_path: Path) -> None:
    copy = shutil.copytree(manifest.parent, tmp_path / "copy")
    shard = copy / read_manifest(manifest)["files"]["train"][0]["file"]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="digest differs"):
        load_encoded(copy / "manifest.json", "train", TrainingConfig(), *text_encoder, 16, 10)
