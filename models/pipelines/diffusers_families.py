"""What is particular to each family of diffusers pipelines that is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from models.pipelines.diffusers_text_to_image import DiffusersTextToImage


class StableDiffusion(DiffusersTextToImage):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one text encoder, a U-Net with cross-attention."""

    network_name = "unet"

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        return self.network.config.time_cond_proj_dim is None and super().wants_negatives(negative_prompts, guidance)

    def _embed(self, text: str) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt([text], self.device, 1, False)
        return {"encoder_hidden_states": states}

    def _predict(self, latents: Tensor, timesteps: Tensor, text: Mapping[str, Tensor], scale: Tensor, size: tuple[int, int]) -> Tensor:
        return self.network(
            latents,
            timesteps,
            encoder_hidden_states=text["encoder_hidden_states"],
            timestep_cond=self._scale_embedding(scale, latents.dtype),
            added_cond_kwargs=self._added(text, size),
            return_dict=False,
        )[0]

    def _added(self, text: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor] | None:
        return None

    def _scale_embedding(self, scale: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Of networks that were distilled to take the guidance as an input (Meng et al. 2023)."""
        width = self.network.config.time_cond_proj_dim
        if width is None:
            return None
        return self.pipe.get_guidance_scale_embedding((scale - 1).cpu(), embedding_dim=width).to(self.device, dtype)


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (Podell et al. 2023): two text encoders, and the size as an input."""

    def _embed(self, text: str) -> dict[str, Tensor]:
        states, _, pooled, _ = self.pipe.encode_prompt([text], device=self.device, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": states, "text_embeds": pooled}

    def embed_negative(self, text: str) -> dict[str, Tensor]:
        """Zeros for no text, where the model was trained so."""
        embedding = self.embed(text)
        if text or not self.pipe.config.get("force_zeros_for_empty_prompt", False):
            return embedding
        return {name: torch.zeros_like(tensor) for name, tensor in embedding.items()}

    def _added(self, text: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        width, height = size
        pooled, encoder = text["text_embeds"], self.pipe.text_encoder_2
        projection = pooled.shape[-1] if encoder is None else encoder.config.projection_dim
        ids = self.pipe._get_add_time_ids((height, width), (0, 0), (height, width), pooled.dtype, projection)
        return {"text_embeds": pooled, "time_ids": ids.to(self.device).repeat(len(pooled), 1)}

    def _unscaled(self, latents: Tensor) -> Tensor:
        statistics = self._statistics(latents)
        if statistics is None:
            return super()._unscaled(latents)
        mean, deviation = statistics
        return latents * deviation / self.pipe.vae.config.scaling_factor + mean

    def _rescaled(self, latents: Tensor) -> Tensor:
        statistics = self._statistics(latents)
        if statistics is None:
            return super()._rescaled(latents)
        mean, deviation = statistics
        return (latents - mean) * self.pipe.vae.config.scaling_factor / deviation

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation of each channel, where the autoencoder tells them."""
        config = self.pipe.vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            return None
        return tuple(torch.tensor(one).view(1, -1, 1, 1).to(latents) for one in (mean, deviation))  # type: ignore[return-value]


class ShiftedLatents(DiffusersTextToImage):
    """What the transformers share: latents with a shift beside their scale."""

    network_name = "transformer"

    @property
    def multiple(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    def _unscaled(self, latents: Tensor) -> Tensor:
        return latents / self.pipe.vae.config.scaling_factor + self.pipe.vae.config.shift_factor

    def _rescaled(self, latents: Tensor) -> Tensor:
        return (latents - self.pipe.vae.config.shift_factor) * self.pipe.vae.config.scaling_factor

    def _shift(self, tokens: int) -> float:
        """By how much a larger image moves its steps to higher noise (Esser et al. 2024)."""
        config = self.pipe.scheduler.config
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": self.default_max_shift}
        return float(calculate_shift(tokens, *(config.get(name, default) for name, default in names.items())))

    default_max_shift: float


class StableDiffusion3(ShiftedLatents):
    """Stable Diffusion 3 (Esser et al. 2024): up to three text encoders, a transformer over text and image."""

    default_max_shift = 1.16

    @property
    def multiple(self) -> int:
        return int(self.pipe.vae_scale_factor * self.pipe.patch_size)

    def _embed(self, text: str) -> dict[str, Tensor]:
        states, _, pooled, _ = self.pipe.encode_prompt([text], None, None, device=self.device, do_classifier_free_guidance=False)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def _predict(self, latents: Tensor, timesteps: Tensor, text: Mapping[str, Tensor], scale: Tensor, size: tuple[int, int]) -> Tensor:
        return self.network(hidden_states=latents, timestep=timesteps, return_dict=False, **text)[0]

    def _set_timesteps(self, scheduler: Any, steps: int, width: int, height: int) -> None:
        shift = {}
        if scheduler.config.get("use_dynamic_shifting"):
            patch = self.network.config.patch_size
            _, rows, columns = self._latent_shape(width, height)
            shift["mu"] = self._shift((rows // patch) * (columns // patch))
        scheduler.set_timesteps(steps, device=self.device, **shift)


class Flux(ShiftedLatents):
    """FLUX.1 (Black Forest Labs 2024): guidance is an input of the network, or was distilled away; there is no negative prompt."""

    default_max_shift = 1.15

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        if any(negative_prompts):
            raise ValueError("negative_prompt: a Flux model takes none; leave it out")
        return False

    def _embed(self, text: str) -> dict[str, Tensor]:
        states, pooled, _ = self.pipe.encode_prompt([text], None, device=self.device)
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def _predict(self, latents: Tensor, timesteps: Tensor, text: Mapping[str, Tensor], scale: Tensor, size: tuple[int, int]) -> Tensor:
        places = text["encoder_hidden_states"].shape[1]
        _, rows, columns = self._latent_shape(*size)
        return self.network(
            hidden_states=latents,
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=scale if self.network.config.guidance_embeds else None,
            txt_ids=torch.zeros(places, 3, device=self.device, dtype=latents.dtype),
            img_ids=self.pipe._prepare_latent_image_ids(len(latents), rows // 2, columns // 2, self.device, latents.dtype),
            return_dict=False,
            **text,
        )[0]

    def _latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        return self.network.config.in_channels // 4, height // self.pipe.vae_scale_factor, width // self.pipe.vae_scale_factor

    def _pack(self, latents: Tensor) -> Tensor:
        return self.pipe._pack_latents(latents, *latents.shape)

    def _unpack(self, latents: Tensor, width: int, height: int) -> Tensor:
        return self.pipe._unpack_latents(latents, height, width, self.pipe.vae_scale_factor)

    def _set_timesteps(self, scheduler: Any, steps: int, width: int, height: int) -> None:
        _, rows, columns = self._latent_shape(width, height)
        sigmas = None if scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        given = {"num_inference_steps": steps} if sigmas is None else {"sigmas": sigmas}
        scheduler.set_timesteps(device=self.device, mu=self._shift(rows // 2 * (columns // 2)), **given)
