"""Few steps without guidance, learned from a teacher's many with it.

The student's one step from each noise level of a short grid to the next is to land where the teacher's several guided steps land
(progressive distillation, Salimans & Ho 2022, and guidance distillation, Meng et al. 2023, in one go). Starting points lie on the teacher's
own way from pure noise (Luhman & Luhman 2021), since that is where the student will be asked; the images of the batch are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.base import Predictor, call, squared_error


@dataclass(frozen=True, kw_only=True)
class StepDistillation:
    """A sample's noise level is of no account: each goes through the whole grid."""

    teacher: Predictor
    sigmas: tuple[float, ...]  #: noise levels of the student from 1 to 0, one more than it has steps
    substeps: int  #: of the teacher for one of the student's
    guidance: float
    unconditional: TextEmbeddings  #: (1,) the empty caption

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(count)

    def spread_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(count)

    def loss(self, predict: Predictor, latents: Tensor, text: TextEmbeddings, levels: Tensor, noise: Tensor) -> Tensor:
        points = self.trajectory(text, noise)
        errors = []
        for sigma, following, start, end in zip(self.sigmas, self.sigmas[1:], points, points[1:], strict=False):
            velocity = call(predict, start, _full(start, 1000 * sigma), text)
            errors.append(squared_error(velocity, (end - start) / (following - sigma)))
        return torch.stack(errors).mean(dim=0)

    @torch.no_grad()
    def trajectory(self, text: TextEmbeddings, noise: Tensor) -> list[Tensor]:
        """Where the teacher is at each of ``sigmas``, as many tensors like ``noise``."""
        points = [noise]
        for sigma, following in zip(self.sigmas, self.sigmas[1:], strict=False):
            point = points[-1]
            width = (following - sigma) / self.substeps
            for step in range(self.substeps):
                point = point + width * self._guided(point, sigma + step * width, text)
            points.append(point)
        return points

    def _guided(self, noisy: Tensor, sigma: float, text: TextEmbeddings) -> Tensor:
        if self.guidance <= 1:
            return call(self.teacher, noisy, _full(noisy, 1000 * sigma), text)
        empty = self.unconditional.to(text.tokens.device).to(text.tokens.dtype)[torch.zeros(len(noisy), dtype=torch.long)]
        both = TextEmbeddings.join([text, empty])
        positive, negative = call(self.teacher, torch.cat([noisy, noisy]), _full(noisy, 1000 * sigma, 2), both).chunk(2)
        return negative + self.guidance * (positive - negative)


def _full(like: Tensor, value: float, times: int = 1) -> Tensor:
    return torch.full((times * len(like),), value, device=like.device)
