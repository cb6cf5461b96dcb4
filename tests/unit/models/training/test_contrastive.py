from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.networks.two_tower import load_two_tower
from models.training.contrastive import EVALUATOR, ContrastiveConfig, augment, info_nce, train

TINY = ContrastiveConfig(epochs=3, batch_size=8, network={"channels": (8, 8), "depth": 1, "embedding_dim": 8, "text_hidden": 8})


@pytest.mark.filterwarnings("ignore")
def test_the_same_command_gives_the_same_weights(manifest: Path, tmp_path: Path) -> None:
    first, second = (train(manifest, tmp_path / name, TINY, lambda _: None) for name in "ab")
    assert first["files"] == second["files"]
    assert 0 <= first["metrics"]["text_recall_at_1"] <= first["metrics"]["text_recall_at_5"] <= 1
    network, digest = load_two_tower(tmp_path / "a")
    assert digest in first["files"].values()
    assert not network.training


def test_the_loss_is_least_where_partners_are_alike() -> None:
    rows, scale = torch.eye(6), torch.tensor(3.0)
    assert info_nce(rows, rows, scale) < info_nce(rows, rows.flip(0), scale)
    assert info_nce(torch.ones(6, 1), torch.ones(6, 1), scale).item() == pytest.approx(torch.log(torch.tensor(6.0)).item())


def test_augmentation_is_a_function_of_its_generator() -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    first, second, third = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert first.shape == images.shape


def test_the_shipped_network_retrieves_far_better_than_chance() -> None:
    metrics = json.loads((EVALUATOR / "training.json").read_text())["metrics"]
    for way in ("text", "image"):
        assert metrics[f"{way}_recall_at_1"] > 10 * metrics["chance_at_1"]
