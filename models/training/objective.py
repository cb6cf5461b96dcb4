"""The rectified-flow objective (Liu et al. 2022) with logit-normal noise levels (Esser et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.pipelines.text_encoder import TextEmbeddings


def velocity_loss(network: nn.Module, images: Tensor, text: TextEmbeddings, sigmas: Tensor, noise: Tensor) -> Tensor:
    """Squared error of the velocity for each sample, ``(B,)``; ``images`` and ``noise`` ``(B, 3, H, W)``, images in -1..1."""
    level = sigmas[:, None, None, None]
    noisy = (1 - level) * images + level * noise
    dtype = text.tokens.dtype
    velocity = network(noisy.to(dtype), 1000 * sigmas, text.tokens, text.mask, text.pooled)
    return (velocity.float() - (noise - images)).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def held_out_loss(network: nn.Module, images: Tensor, text: TextEmbeddings, batch_size: int = 64, seed: int = 0) -> float:
    """Mean loss over ``images`` at noise levels spread evenly over 0..1, with noise that is the same at every call."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator)
    sigmas = (torch.randperm(len(images), generator=generator) + 0.5) / len(images)
    parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
    return torch.cat([velocity_loss(network, images[part], text[part], sigmas[part], noise[part]) for part in parts]).mean().item()
