"""The product's own pipeline: an hourglass transformer on pixels, MiniLM, rectified flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertModel, PreTrainedTokenizerBase

from models.networks.hourglass_transformer import MERGE, Block, HourglassTransformer2DModel
from models.pipelines.text_encoder import MAX_TOKENS, TextEmbeddings, encode_text
from models.pipelines.text_to_image import AtelierTextToImagePipeline, assemble, save_pipeline
from models.training.config import TrainingConfig
from models.training.families.base import Family, weights_digest
from models.training.objectives.base import Predictor
from models.training.objectives.flow_matching import FlowMatching


@dataclass(frozen=True)
class TokenStates:
    """The first ``length`` token states of a text and their mean."""

    encoder: BertModel
    tokenizer: PreTrainedTokenizerBase
    length: int

    @cached_property
    def identity(self) -> str:
        return f"{weights_digest(self.encoder)}-{self.length}"

    def token_count(self, text: str) -> int:
        return len(self.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"])

    def encode(self, texts: Sequence[str]) -> TextEmbeddings:
        return encode_text(self.encoder, self.tokenizer, texts, self.length)


class HourglassFamily(Family):
    """:param scheduler: in place of the pipeline's usual one, such as the grid of a few-step student"""

    attention = ("attention.qkv", "attention.out")
    component = "transformer"

    def __init__(
        self,
        network: HourglassTransformer2DModel,
        encoder: BertModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: FlowMatchEulerDiscreteScheduler | None = None,
    ) -> None:
        self.network = network
        self.encoder, self.tokenizer, self.scheduler = encoder, tokenizer, scheduler
        self.texts = TokenStates(encoder, tokenizer, network.config.text_length)
        self.multiple = MERGE * network.config.patch_size

    def objective(self, config: TrainingConfig) -> FlowMatching:
        return FlowMatching(sigma_mean=config.sigma_mean, sigma_std=config.sigma_std, snr_gamma=config.snr_gamma)

    def predictor(self, network: nn.Module) -> Predictor:
        return network

    def checkpoint_gradients(self, network: nn.Module) -> None:
        for block in network.modules():
            if isinstance(block, Block):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]

    def render(self, network: nn.Module, prompts: Sequence[str], steps: int, guidance: float) -> list[Image.Image]:
        pipeline = self._pipeline(network)
        return list(pipeline(list(prompts), num_inference_steps=steps, guidance_scale=guidance).images)

    def save(self, network: nn.Module, directory: Path) -> None:
        save_pipeline(self._pipeline(network), directory)

    def sides(self) -> tuple[int, int]:
        return self.network.config.sample_size, self.network.config.sample_size

    def _pipeline(self, network: nn.Module) -> AtelierTextToImagePipeline:
        pipeline = assemble(network, self.encoder.to(_device_of(network)), self.tokenizer)
        if self.scheduler is not None:
            pipeline.register_modules(scheduler=self.scheduler)
        return pipeline


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
