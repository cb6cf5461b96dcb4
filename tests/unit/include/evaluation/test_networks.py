"""The shipped network, a CLIP and an Inception behind the same ports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from include.evaluation.agreement import prompt_agreement
from include.evaluation.networks import load_network
from models.networks.inception import InceptionV3
from models.training.contrastive import EVALUATOR

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
CAPTIONS = ["red heart", "cat face", "pizza", "rocket", "sun"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights."""
    directory = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    text = {**tower, "vocab_size": 40, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=8)
    CLIPModel(config).save_pretrained(directory, safe_serialization=True)
    letters = [*"abcdefghijklmnopqrst", *(f"{letter}</w>" for letter in "abcdefghijklmnop")]
    vocabulary = {token: index for index, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(directory / "vocab.json"), str(directory / "merges.txt")).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Inception v3 with random weights, as timm publishes it."""
    directory = tmp_path_factory.mktemp("inception")
    torch.manual_seed(0)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in InceptionV3().state_dict().items()}
    save_file({**weights, "fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(1000)}, directory / "model.safetensors")
    told = {"architecture": "inception_v3", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
    (directory / "config.json").write_text(json.dumps(told))
    return directory


@pytest.fixture(params=["shipped", "clip", "inception"])
def directory(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "shipped" else str(request.getfixturevalue("clip"))


def test_rows_have_one_length_and_do_not_depend_on_the_batch(directory: str) -> None:
    network = load_network(directory)
    rows = network.features(IMAGES)
    assert rows.shape[0] == 5
    assert np.linalg.norm(rows, axis=1) == pytest.approx(rows.shape[1] ** 0.5, rel=1e-3)
    assert network.features(IMAGES[2:3])[0] == pytest.approx(rows[2], abs=1e-3)


def test_similarity_is_of_each_image_with_its_own_caption(directory: str) -> None:
    network = load_network(directory)
    together = network.similarity(IMAGES, CAPTIONS)
    assert together.shape == (5,) and np.abs(together).max() <= 1.0001
    assert network.similarity(IMAGES[1:2], CAPTIONS[1:2]) == pytest.approx(together[1:2], abs=1e-3)


def test_each_network_has_a_name_of_its_own(clip: Path) -> None:
    assert load_network().name.startswith("two-tower-")
    assert load_network(str(clip)).name.startswith("clip-")


def test_an_inception_leaves_agreement_to_the_shipped_network(inception: Path) -> None:
    network = load_network(str(inception))
    assert network.name.startswith("inception-v3-")
    assert network.agreement_name == load_network().name
    assert network.features(IMAGES[:1]).shape == (1, 2048)


def test_weights_of_another_network_are_refused(tmp_path: Path, inception: Path) -> None:
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((inception / "config.json").read_text())
    with pytest.raises(ValueError, match="holds no Inception v3"):
        load_network(str(tmp_path))


def test_agreement_lies_beside_its_reference_values(directory: str) -> None:
    found = prompt_agreement(load_network(directory), IMAGES, IMAGES, CAPTIONS)
    assert found["prompt_agreement"] == found["prompt_agreement_true"]
    assert found["prompt_agreement_error"] > 0
    assert found["prompt_agreement_shuffled"] != found["prompt_agreement"]


def test_what_is_not_a_network_is_refused(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(ValueError, match="holds neither a two-tower network"):
        load_network(str(tmp_path))
    (clip / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds pytorch_model\.bin; only safetensors"):
        load_network(str(clip))
    (clip / "pytorch_model.bin").unlink()


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    for path in (EVALUATOR / "network").iterdir():
        (tmp_path / "network" / path.name).write_bytes(path.read_bytes() + b" ")
    (tmp_path / "training.json").write_bytes((EVALUATOR / "training.json").read_bytes())
    with pytest.raises(ValueError, match="digest differs"):
        load_network(str(tmp_path))
