from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.pipelines.text_encoder import TextEmbeddings
from models.training.held_out import held_out_loss
from models.training.objectives.flow_matching import FlowMatching

TEXT = TextEmbeddings(torch.zeros(4, 16, 384), torch.ones(4, 16, dtype=torch.bool), torch.zeros(4, 384))


class Oracle(nn.Module):
    """Knows the images, and so the velocity at any noisy sample."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, sample: Tensor, timestep: Tensor, *_: Tensor) -> Tensor:
        return (sample - self.images) / (timestep / 1000)[:, None, None, None]


def test_the_true_velocity_has_no_loss() -> None:
    images, noise = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    assert FlowMatching().loss(Oracle(images), images, TEXT, torch.tensor([0.1, 0.4, 0.7, 1.0]), noise).max() < 1e-8


def test_a_wrong_image_costs_its_error_over_the_squared_noise_level() -> None:
    images, noise = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    loss = FlowMatching().loss(Oracle(images + 0.1), images, TEXT, torch.full((4,), 0.5), noise)
    assert torch.allclose(loss, torch.full((4,), 0.1**2 / 0.5**2), atol=1e-4)


@pytest.mark.parametrize(("sigma", "snr"), [(0.8, 0.0625), (0.5, 1.0), (0.1, 81.0)])
def test_min_snr_weighs_the_error_of_the_image_by_the_limited_snr(sigma: float, snr: float) -> None:
    images, noise = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    loss = FlowMatching(snr_gamma=5.0).loss(Oracle(images + 0.1), images, TEXT, torch.full((4,), sigma), noise)
    assert torch.allclose(loss, torch.full((4,), min(snr, 5.0) * 0.1**2), rtol=1e-3)


def test_held_out_loss_is_the_same_at_every_call() -> None:
    images = torch.rand(4, 3, 8, 8)
    model = Oracle(images + 0.1)
    assert held_out_loss(model, images, TEXT) == held_out_loss(model, images, TEXT) > 0
