"""Weights of torchvision, timm and of the port of TensorFlow's network fit, and each is pooled as it was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.networks.inception import FEATURES, TENSORFLOW_CLASSES, InceptionV3, load_inception, normalisation

#: Weights of torchvision's ``inception_v3`` without its two heads.
WEIGHTS = 21_785_568
NAMES = ("Conv2d_4a_3x3.bn.running_var", "Mixed_5d.branch3x3dbl_3.conv.weight", "Mixed_6a.branch3x3.conv.weight")
MORE_NAMES = ("Mixed_6e.branch7x7dbl_5.bn.bias", "Mixed_7a.branch7x7x3_4.conv.weight", "Mixed_7c.branch3x3_2b.conv.weight")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return InceptionV3().state_dict()


def test_it_has_the_weights_by_the_names_of_torchvision(weights: dict[str, torch.Tensor]) -> None:
    assert sum(value.numel() for name, value in weights.items() if name.endswith(("weight", "bias"))) == WEIGHTS
    assert set(NAMES + MORE_NAMES) <= set(weights)


def test_the_head_tells_how_it_is_pooled(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.manual_seed(1)
    image, rows = torch.rand(1, 3, 299, 299), {}
    for classes in (1000, TENSORFLOW_CLASSES):
        save_file({**weights, "fc.weight": torch.zeros(classes, 1)}, tmp_path / f"{classes}.safetensors")
        rows[classes] = load_inception(tmp_path / f"{classes}.safetensors")(image)
        assert rows[classes].shape == (1, FEATURES)
    assert not torch.allclose(rows[1000], rows[TENSORFLOW_CLASSES])


def test_without_a_configuration_values_are_centred(tmp_path: Path) -> None:
    assert normalisation(tmp_path) == ([0.5] * 3, [0.5] * 3)
