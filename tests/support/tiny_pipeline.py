"""A pipeline directory with random weights that loads in a moment: the real classes, a few thousand parameters, a tiny text encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_encoder import load_tokenizer
from models.pipelines.text_to_image import AtelierTextToImagePipeline, assemble, save_pipeline
from tests.support.device import DEVICE

SIDE = 16
NETWORK = {
    "sample_size": SIDE,
    "patch_size": 2,
    "outer_dim": 16,
    "outer_depth": 1,
    "inner_dim": 32,
    "inner_depth": 1,
    "head_dim": 16,
    "text_dim": 32,
}
ENCODER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30522}


def tiny_pipeline(seed: int = 0, **network: int) -> AtelierTextToImagePipeline:
    """Every weight random, so that prompt, seed and guidance all show in the image."""
    torch.manual_seed(seed)
    net = HourglassTransformer2DModel(**{**NETWORK, **network})
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    encoder = BertModel(BertConfig(**ENCODER), add_pooling_layer=False).eval()
    return assemble(net, encoder, load_tokenizer()).to(DEVICE)


def write_tiny_pipeline(directory: Path, seed: int = 0, **network: int) -> Path:
    return save_pipeline(tiny_pipeline(seed, **network), directory)
