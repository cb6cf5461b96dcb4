"""Stable Diffusion 1.x and 2.x as diffusers saves it: a U-Net on the latents of an autoencoder, CLIP, the denoising objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from models.pipelines.loading import load_text_to_image
from models.pipelines.text_encoder import TextEmbeddings, quiet
from models.training.config import TrainingConfig
from models.training.families.base import Family, weights_digest
from models.training.objectives.base import Predictor
from models.training.objectives.ddpm import Ddpm


@dataclass(frozen=True)
class ClipStates:
    """The last hidden states of CLIP's text encoder, always padded to its full length, as the network was trained with."""

    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    @cached_property
    def identity(self) -> str:
        return f"{weights_digest(self.encoder)}-{self.tokenizer.model_max_length}"

    def token_count(self, text: str) -> int:
        return int(self.tokenizer.model_max_length)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextEmbeddings:
        length = self.tokenizer.model_max_length
        inputs = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        states = self.encoder(inputs.input_ids.to(self.encoder.device)).last_hidden_state
        return TextEmbeddings(states, torch.ones(states.shape[:2], dtype=torch.bool), states.new_zeros(len(states), 0))


@dataclass(frozen=True)
class AutoencoderMeans:
    """The autoencoder's latents, scaled as the network knows them: the mean of their distribution, so that they can be kept."""

    autoencoder: AutoencoderKL

    @cached_property
    def identity(self) -> str:
        return weights_digest(self.autoencoder)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        return self.autoencoder.encode(pixels.to(self.autoencoder.device)).latent_dist.mean * self.autoencoder.config.scaling_factor


class StableDiffusionFamily(Family):
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    component = "unet"
    memory_format = torch.channels_last

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self.network = pipeline.unet
        self._around = pipeline
        self.texts = ClipStates(pipeline.text_encoder, pipeline.tokenizer)
        self.images = AutoencoderMeans(pipeline.vae)
        self.multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises :class:`ValueError` for a directory that asks for more than the classes a worker would load."""
        pipeline = load_text_to_image(directory, "cpu").pipeline.pipe
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline)

    def objective(self, config: TrainingConfig) -> Ddpm:
        return Ddpm.of(dict(self._around.scheduler.config), config.snr_gamma)

    def predictor(self, network: nn.Module) -> Predictor:
        def predict(sample: Tensor, timestep: Tensor, text: Tensor, _mask: Tensor, _pooled: Tensor, /) -> Tensor:
            sample = sample.contiguous(memory_format=self.memory_format)
            return network(sample, timestep, encoder_hidden_states=text, return_dict=False)[0]

        return predict

    def checkpoint_gradients(self, network: nn.Module) -> None:
        assert isinstance(network, UNet2DConditionModel)
        network.enable_gradient_checkpointing()

    def render(self, network: nn.Module, prompts: Sequence[str], steps: int, guidance: float) -> list[Image.Image]:
        pipeline = self._with(network).to(next(network.parameters()).device)
        seeds = [torch.Generator().manual_seed(index) for index in range(len(prompts))]
        return list(pipeline(list(prompts), num_inference_steps=steps, guidance_scale=guidance, generator=seeds).images)

    def save(self, network: nn.Module, directory: Path) -> None:
        with quiet():
            self._with(network).save_pretrained(str(directory), safe_serialization=True)

    def sides(self) -> tuple[int, int]:
        side = self.network.config.sample_size * self._around.vae_scale_factor
        return side, side

    def _with(self, network: nn.Module) -> StableDiffusionPipeline:
        network.eval()
        self._around.register_modules(unet=network)
        return self._around
