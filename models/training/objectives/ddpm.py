"""The denoising objective of Ho et al. (2020), for the noise or for the velocity of Salimans & Ho (2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from models.pipelines.text_encoder import TextEmbeddings
from models.training.objectives.base import Predictor, call, squared_error

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, kw_only=True)
class Ddpm:
    """A noise level is a step of the noise schedule, 0 the least noisy."""

    alphas_cumprod: Tensor  #: (T,) share of the image's variance that is left at each step
    prediction: Literal["epsilon", "v_prediction"]
    snr_gamma: float | None = None

    @classmethod
    def of(cls, scheduler_config: dict[str, object], snr_gamma: float | None) -> Self:
        """The schedule that a pipeline was trained with. Raises :class:`ValueError` for a prediction that is neither noise nor velocity."""
        schedule = DDPMScheduler.from_config(scheduler_config)
        prediction = schedule.config.prediction_type
        if prediction not in PREDICTIONS:
            raise ValueError(f"scheduler: prediction_type {prediction!r} can't be trained; known are {', '.join(PREDICTIONS)}")
        return cls(alphas_cumprod=schedule.alphas_cumprod, prediction=prediction, snr_gamma=snr_gamma)

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.alphas_cumprod), (count,), generator=generator)

    def spread_levels(self, count: int, generator: torch.Generator) -> Tensor:
        share = (torch.randperm(count, generator=generator) + 0.5) / count
        return (share * len(self.alphas_cumprod)).long()

    def loss(self, predict: Predictor, latents: Tensor, text: TextEmbeddings, levels: Tensor, noise: Tensor) -> Tensor:
        kept = self.alphas_cumprod.to(latents.device)[levels]
        signal, spread = kept.sqrt()[:, None, None, None], (1 - kept).sqrt()[:, None, None, None]
        target = noise if self.prediction == "epsilon" else signal * noise - spread * latents
        error = squared_error(call(predict, signal * latents + spread * noise, levels, text), target)
        return error if self.snr_gamma is None else error * self._weight(kept / (1 - kept), self.snr_gamma)

    def _weight(self, snr: Tensor, gamma: float) -> Tensor:
        """Min-SNR (Hang et al. 2023), equation 5: the error of the image weighted by min(SNR, gamma), said for what is predicted."""
        return snr.clamp(max=gamma) / (snr if self.prediction == "epsilon" else snr + 1)
