"""Inception v3 (Szegedy et al. 2015) up to its last pooling: the features that sets of photographs are usually compared by.

The modules are named as in torchvision, timm and the port of TensorFlow's network of 2015, so that weights of any of them fit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

SIDE = 299  #: pixels that it was trained on
FEATURES = 2048
TENSORFLOW_CLASSES = 1008  #: the network of 2015, by which a Fréchet Inception distance is measured, has as many; its pooling differs
_UNUSED = ("AuxLogits.", "fc.")

#: Name, channels, kernel (height, width) and stride of a convolution.
Layer = tuple[str, int, tuple[int, int], int]
#: One after another; of two side by side in a step, the outputs are put together.
Branch = Sequence[tuple[Layer, ...]]


class Convolution(nn.Module):
    """Without bias, normalised."""

    def __init__(self, before: int, channels: int, kernel: tuple[int, int], stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(before, channels, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, and a pooled one, whose outputs are put together.

    :param pool: ``average``, ``inside`` (average without the border), ``max``, or ``half``, which halves the sides
    :param pooled: channels of the convolution behind the pooling; 0: none
    """

    def __init__(self, before: int, branches: Sequence[Branch], pool: str, pooled: int = 0) -> None:
        super().__init__()
        self._branches, self._pool = branches, pool
        self.channels = 0
        for branch in branches:
            width = before
            for step in branch:
                for name, channels, kernel, stride in step:
                    self.add_module(name, Convolution(width, channels, kernel, stride, padded=stride == 1))
                width = sum(channels for _, channels, _, _ in step)
            self.channels += width
        self.branch_pool = Convolution(before, pooled, (1, 1)) if pooled else None
        self.channels += pooled or before

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, self._pool)
        return torch.cat(
            [*(self._along(branch, x) for branch in self._branches), self.branch_pool(pooled) if self.branch_pool else pooled], 1
        )

    def _along(self, branch: Branch, x: Tensor) -> Tensor:
        for step in branch:
            x = torch.cat([self.get_submodule(name)(x) for name, _, _, _ in step], 1)
        return x


class InceptionV3(nn.Module):
    """:param tensorflow: the pooling of the network of 2015"""

    def __init__(self, *, tensorflow: bool = False) -> None:
        super().__init__()
        average, last = ("inside", "max") if tensorflow else ("average", "average")
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), 2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), padded=False)
        self._mixed, width = [], 192
        for name, branches, pool, pooled in _blocks(average, last):
            block = Mixed(width, branches, pool, pooled)
            self.add_module(name, block)
            self._mixed.append(name)
            width = block.channels

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 2048)`` of normalised images ``(B, 3, 299, 299)``."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_pooled(x, "half")))
        x = _pooled(x, "half")
        for name in self._mixed:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def load_inception(weights: Path) -> InceptionV3:
    """From a safetensors file. Raises :class:`ValueError` where it holds another network."""
    found = load_file(weights)
    head = found.get("fc.weight")
    network = InceptionV3(tensorflow=head is not None and head.shape[0] == TENSORFLOW_CLASSES)
    try:
        network.load_state_dict({name: value.float() for name, value in found.items() if not name.startswith(_UNUSED)})
    except RuntimeError as error:
        raise ValueError(f"{weights} holds no Inception v3: {error}") from error
    return network.eval().requires_grad_(False)


def normalisation(directory: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in 0..1 that it was trained with, as timm's ``config.json`` says; else one half."""
    path = directory / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")).get("pretrained_cfg", {}) if path.is_file() else {}
    return list(told.get("mean", [0.5] * 3)), list(told.get("std", [0.5] * 3))


def _pooled(x: Tensor, kind: str) -> Tensor:
    if kind == "half":
        return F.max_pool2d(x, 3, stride=2)
    if kind == "max":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=kind == "average")


def _chain(name: str, *layers: tuple[int, tuple[int, int], int]) -> Branch:
    """Numbered from 1, where there are several."""
    numbered = [f"{name}_{index}" for index in range(1, len(layers) + 1)] if len(layers) > 1 else [name]
    return [((each, *layer),) for each, layer in zip(numbered, layers, strict=True)]


def _split(name: str, channels: int) -> tuple[Layer, Layer]:
    return (f"{name}a", channels, (1, 3), 1), (f"{name}b", channels, (3, 1), 1)


def _blocks(average: str, last: str) -> list[tuple[str, list[Branch], str, int]]:
    """Name, branches, pooling and its channels, as figures 5 to 7 of the paper have them."""
    one, three, five, wide, tall = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)

    def small() -> list[Branch]:
        double = _chain("branch3x3dbl", (64, one, 1), (96, three, 1), (96, three, 1))
        return [_chain("branch1x1", (64, one, 1)), _chain("branch5x5", (48, one, 1), (64, five, 1)), double]

    def narrow(c: int) -> list[Branch]:
        double = _chain("branch7x7dbl", (c, one, 1), (c, tall, 1), (c, wide, 1), (c, tall, 1), (192, wide, 1))
        return [_chain("branch1x1", (192, one, 1)), _chain("branch7x7", (c, one, 1), (c, wide, 1), (192, tall, 1)), double]

    def spread() -> list[Branch]:
        single = [(("branch3x3_1", 384, one, 1),), _split("branch3x3_2", 384)]
        double = [(("branch3x3dbl_1", 448, one, 1),), (("branch3x3dbl_2", 384, three, 1),), _split("branch3x3dbl_3", 384)]
        return [_chain("branch1x1", (320, one, 1)), single, double]

    halved = [_chain("branch3x3", (384, three, 2)), _chain("branch3x3dbl", (64, one, 1), (96, three, 1), (96, three, 2))]
    halved_again = [
        _chain("branch3x3", (192, one, 1), (320, three, 2)),
        _chain("branch7x7x3", (192, one, 1), (192, wide, 1), (192, tall, 1), (192, three, 2)),
    ]
    return [
        *((f"Mixed_5{letter}", small(), average, pooled) for letter, pooled in (("b", 32), ("c", 64), ("d", 64))),
        ("Mixed_6a", halved, "half", 0),
        *((f"Mixed_6{letter}", narrow(c), average, 192) for letter, c in (("b", 128), ("c", 160), ("d", 160), ("e", 192))),
        ("Mixed_7a", halved_again, "half", 0),
        ("Mixed_7b", spread(), average, 192),
        ("Mixed_7c", spread(), last, 192),
    ]
