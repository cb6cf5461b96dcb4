"""What is learned: which noise levels are drawn, and what a prediction at one of them costs."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings


class Predictor(Protocol):
    """A network, or a function around one: its prediction ``(B, C, H, W)`` at noisy latents of that shape.

    ``timestep`` is ``(B,)`` in 0..1000; ``text`` ``(B, L, D)`` token states, ``text_mask`` ``(B, L)``, ``pooled`` ``(B, D)``.
    """

    def __call__(self, sample: Tensor, timestep: Tensor, text: Tensor, text_mask: Tensor, pooled: Tensor, /) -> Tensor: ...


class Objective(Protocol):
    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Random noise levels ``(count,)``, in units of the objective's own."""

    def spread_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels ``(count,)`` spread evenly over all there are, in random order."""

    def loss(self, predict: Predictor, latents: Tensor, text: TextEmbeddings, levels: Tensor, noise: Tensor) -> Tensor:
        """Loss of each sample ``(B,)``; ``latents`` and ``noise`` ``(B, C, H, W)``. The arithmetic of ``predict`` is that of ``text``."""


def call(predict: Predictor, noisy: Tensor, timesteps: Tensor, text: TextEmbeddings) -> Tensor:
    """The prediction in fp32, computed in the arithmetic of ``text``."""
    return predict(noisy.to(text.tokens.dtype), timesteps, text.tokens, text.mask, text.pooled).float()


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over all but the first dimension."""
    return (prediction - target).square().flatten(1).mean(dim=1)
