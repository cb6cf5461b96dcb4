from __future__ import annotations

import torch
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.step_distillation import StepDistillation

TEXT = TextEmbeddings(torch.ones(2, 4, 8), torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 8))
EMPTY = TextEmbeddings(torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 8))
SIGMAS = (1.0, 0.5, 0.0)


def straight(sample: Tensor, timestep: Tensor, text: Tensor, *_: Tensor) -> Tensor:
    """Velocity 1 without a caption, 2 with one, whatever the place."""
    return torch.ones_like(sample) * (1 + text.mean(dim=(1, 2)))[:, None, None, None]


def distillation(guidance: float) -> StepDistillation:
    return StepDistillation(teacher=straight, sigmas=SIGMAS, substeps=3, guidance=guidance, unconditional=EMPTY)


def test_the_teacher_goes_from_noise_along_its_guided_velocity() -> None:
    noise = torch.randn(2, 3, 4, 4)
    start, middle, end = distillation(3.0).trajectory(TEXT, noise)
    guided = 1 + 3.0 * (2 - 1)
    assert torch.equal(start, noise)
    assert torch.allclose(middle, noise - 0.5 * guided, atol=1e-6)
    assert torch.allclose(end, noise - guided, atol=1e-5)


def test_a_student_that_takes_the_teachers_way_has_no_loss() -> None:
    noise = torch.randn(2, 3, 4, 4)

    def student(sample: Tensor, *_: Tensor) -> Tensor:
        return torch.full_like(sample, 4.0)

    def unguided(sample: Tensor, *_: Tensor) -> Tensor:
        return torch.full_like(sample, 2.0)

    latents, levels = torch.zeros_like(noise), torch.zeros(2)
    assert distillation(3.0).loss(student, latents, TEXT, levels, noise).max() < 1e-8
    assert torch.allclose(distillation(3.0).loss(unguided, latents, TEXT, levels, noise), torch.full((2,), 4.0), atol=1e-4)
    assert distillation(1.0).loss(unguided, latents, TEXT, levels, noise).max() < 1e-8
