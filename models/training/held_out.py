"""The loss on samples that are not trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.base import Objective, Predictor
from models.training.objectives.flow_matching import FlowMatching

FLOW: Objective = FlowMatching()


@torch.no_grad()
def held_out_loss(
    predict: Predictor, latents: Tensor, text: TextEmbeddings, objective: Objective = FLOW, batch_size: int = 64, seed: int = 0
) -> float:
    """Mean loss over ``latents`` ``(N, C, H, W)`` at noise levels spread evenly over all, with noise that is the same at every call.

    Computed where ``text`` is.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator)
    levels = objective.spread_levels(len(latents), generator)
    losses = []
    for start in range(0, len(latents), batch_size):
        part = slice(start, start + batch_size)
        there = [tensor[part].to(text.tokens.device) for tensor in (latents, levels, noise)]
        losses.append(objective.loss(predict, there[0], text[part], there[1], there[2]))
    return torch.cat(losses).mean().item()
