from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.ddpm import Ddpm

TEXT = TextEmbeddings(torch.zeros(4, 2, 8), torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, 0))
LEVELS = torch.tensor([0, 10, 500, 999])


def schedule(prediction: str) -> DDPMScheduler:
    return DDPMScheduler(prediction_type=prediction, beta_schedule="scaled_linear")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_target_are_those_of_diffusers(prediction: str) -> None:
    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    reference = schedule(prediction)
    target = noise if prediction == "epsilon" else reference.get_velocity(latents, noise, LEVELS)
    seen: list[Tensor] = []

    def predict(sample: Tensor, timestep: Tensor, *_: Tensor) -> Tensor:
        seen.append(sample)
        assert torch.equal(timestep, LEVELS)
        return target

    loss = Ddpm.of(dict(reference.config), None).loss(predict, latents, TEXT, LEVELS, noise)
    assert loss.max() < 1e-10
    assert torch.allclose(seen[0], reference.add_noise(latents, noise, LEVELS), atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_the_weight_of_the_paper(prediction: str) -> None:
    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    reference = schedule(prediction)
    plain, weighted = (Ddpm.of(dict(reference.config), gamma) for gamma in (None, 5.0))

    def predict(sample: Tensor, *_: Tensor) -> Tensor:
        return torch.zeros_like(sample)

    snr = reference.alphas_cumprod[LEVELS] / (1 - reference.alphas_cumprod[LEVELS])
    expected = snr.clamp(max=5.0) / (snr if prediction == "epsilon" else snr + 1)
    arguments = (predict, latents, TEXT, LEVELS, noise)
    assert torch.allclose(weighted.loss(*arguments) / plain.loss(*arguments), expected, rtol=1e-4)


def test_a_prediction_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction_type 'sample'"):
        Ddpm.of(dict(schedule("sample").config), None)


def test_levels_cover_the_schedule() -> None:
    levels = Ddpm.of(dict(schedule("epsilon").config), None).spread_levels(100, torch.Generator().manual_seed(0))
    assert sorted(levels.tolist()) == list(range(5, 1000, 10))
