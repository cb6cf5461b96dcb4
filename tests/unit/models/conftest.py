"""A small dataset, a small network and the real text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import BertModel, PreTrainedTokenizerBase

from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.versions import publish_version
from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_encoder import load_text_encoder
from models.pipelines.text_to_image import AtelierTextToImagePipeline, assemble

TINY = {"sample_size": 16, "patch_size": 2, "outer_dim": 16, "outer_depth": 1, "inner_dim": 32, "inner_depth": 1, "head_dim": 16}
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "grey")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 coloured squares of 16 px, some of them held out."""
    root = tmp_path_factory.mktemp("dataset")
    for index in range(24):
        colour, side = COLOURS[index % len(COLOURS)], 4 + index // len(COLOURS) * 4
        image = Image.new("RGB", (16, 16), "white")
        ImageDraw.Draw(image).rectangle((1, 1, side, side), fill=colour)
        (root / "images").mkdir(exist_ok=True)
        image.save(root / "images" / f"{index:02d}.png")
        (root / "images" / f"{index:02d}.txt").write_text(f"{colour} square of {side}\n{colour} box\n")
    config = DatasetConfig(name="squares", source="folder", path=root / "images", size=16, validation=0.25)
    return Path(publish_version([prepare_shard(plan) for plan in plan_shards(config, root / "datasets")], root / "datasets").manifest)


@pytest.fixture(scope="session")
def text_encoder() -> tuple[BertModel, PreTrainedTokenizerBase]:
    return load_text_encoder()


@pytest.fixture
def network() -> HourglassTransformer2DModel:
    """Every weight random: zero-initialised projections would hide what they should carry."""
    torch.manual_seed(0)
    network = HourglassTransformer2DModel(**TINY)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network.eval()


@pytest.fixture
def pipeline(network: HourglassTransformer2DModel, text_encoder: tuple[BertModel, PreTrainedTokenizerBase]) -> AtelierTextToImagePipeline:
    return assemble(network, *text_encoder)
