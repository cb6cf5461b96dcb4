"""A small image tower and a text head that meet in one space: similar where the text says what the picture shows.

The image tower is a residual convolutional network (He et al. 2016) with batch normalisation, which on a CPU costs a twentieth of group
normalisation; once trained, an image's row does not depend on the others of its batch. The text side is a head on a frozen encoder's
pooled states. What the tower sees before its projection serves as the features that sets of images are compared by.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

STRIDE = 4  #: of the first convolution
RECORD = "training.json"  #: beside the network: how it was trained, and the digest of each file


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.convolutions[0](x)))
        return F.relu(x + self.norms[1](self.convolutions[1](y)))


class TwoTowerModel(ModelMixin, ConfigMixin):
    """``channels`` are those of the stages, each of which halves the sides that the one before left; ``text_dim`` is the encoder's."""

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        channels: tuple[int, ...] = (32, 64, 128),
        depth: int = 2,
        embedding_dim: int = 128,
        text_dim: int = 384,
        text_hidden: int = 256,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 2 * STRIDE - 1, stride=STRIDE, padding=STRIDE - 1)
        stages: list[nn.Module] = []
        for before, width in zip((channels[0], *channels), channels, strict=False):
            stages += [nn.Conv2d(before, width, 2, stride=2)] if stages else []
            stages += [ResidualBlock(width) for _ in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.feature_norm = nn.LayerNorm(2 * channels[-1])
        self.image_projection = nn.Linear(2 * channels[-1], embedding_dim)
        self.text_head = nn.Sequential(
            nn.LayerNorm(text_dim), nn.Linear(text_dim, text_hidden), nn.SiLU(), nn.Linear(text_hidden, embedding_dim)
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def features(self, images: Tensor) -> Tensor:
        """``(B, 2·channels[-1])`` of images ``(B, 3, H, W)`` in -1..1: mean and maximum over places, normalised per image.

        A row has the length √(2·channels[-1]), whatever the image.
        """
        x = self.stages(self.stem(images)).flatten(2)
        return F.layer_norm(torch.cat([x.mean(2), x.amax(2)], dim=1).float(), self.feature_norm.normalized_shape)

    def embed_images(self, images: Tensor) -> Tensor:
        """``(B, embedding_dim)`` of length one."""
        affine = self.feature_norm
        return F.normalize(self.image_projection(self.features(images) * affine.weight + affine.bias).float(), dim=1)

    def embed_texts(self, pooled: Tensor) -> Tensor:
        """``(B, embedding_dim)`` of length one, of pooled text states ``(B, text_dim)``."""
        return F.normalize(self.text_head(pooled).float(), dim=1)


def load_two_tower(directory: Path) -> tuple[TwoTowerModel, str]:
    """The network in fp32, and the SHA-256 of its weights. Raises :class:`ValueError` for a file whose digest is not the record's."""
    files: dict[str, str] = json.loads((directory / RECORD).read_text(encoding="utf-8"))["files"]
    for name, digest in files.items():
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{directory / name} is not the file that was trained: its digest differs; train it anew")
    network = TwoTowerModel.from_pretrained(
        str(directory / "network"), use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
    )
    return network.eval().requires_grad_(False), next(digest for name, digest in files.items() if name.endswith(".safetensors"))
