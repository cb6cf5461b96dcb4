"""The rectified-flow objective (Liu et al. 2022) with logit-normal noise levels (Esser et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.base import Predictor, call, squared_error


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Predicts the velocity, noise minus image. A noise level is sigma in 0..1: the share of noise in the noisy image."""

    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    snr_gamma: float | None = None

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.sigmoid(self.sigma_mean + self.sigma_std * torch.randn(count, generator=generator))

    def spread_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return (torch.randperm(count, generator=generator) + 0.5) / count

    def loss(self, predict: Predictor, latents: Tensor, text: TextEmbeddings, levels: Tensor, noise: Tensor) -> Tensor:
        sigma = levels[:, None, None, None]
        noisy = (1 - sigma) * latents + sigma * noise
        error = squared_error(call(predict, noisy, 1000 * levels, text), noise - latents)
        return error if self.snr_gamma is None else error * self._weight(levels, self.snr_gamma)

    def _weight(self, sigma: Tensor, gamma: float) -> Tensor:
        """Min-SNR (Hang et al. 2023) for the velocity, whose error is that of the image over sigma squared."""
        snr = ((1 - sigma) / sigma.clamp_min(1e-3)).square()
        return snr.clamp(max=gamma) * sigma.square()
