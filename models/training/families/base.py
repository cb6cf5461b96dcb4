"""What training asks of a kind of pipeline."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from models.pipelines.text_encoder import TextEmbeddings
from models.training.config import TrainingConfig
from models.training.objectives.base import Objective, Predictor


class TextCoder(Protocol):
    @property
    def identity(self) -> str:
        """Digest of all that an encoding depends on beside the text: weights, lengths, code."""

    def token_count(self, text: str) -> int:
        """Texts of one count can be encoded together without padding."""

    def encode(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embeddings of texts of one token count."""


class ImageCoder(Protocol):
    @property
    def identity(self) -> str:
        """Digest of all that an encoding depends on beside the pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents ``(B, C, h, w)`` of ``(B, 3, H, W)`` pixels in -1..1."""


class Family(ABC):
    """A network with what surrounds it in its pipeline."""

    network: nn.Module  #: that is trained, in fp32
    texts: TextCoder
    images: ImageCoder | None = None  #: None: the network works on pixels
    attention: tuple[str, ...]  #: ends of the names of the attention's projections
    component: str  #: before the layers' names in a file of adapters
    multiple: int  #: width and height of images are multiples of this many pixels
    memory_format: torch.memory_format = torch.contiguous_format  #: that suits the network's layers

    @abstractmethod
    def objective(self, config: TrainingConfig) -> Objective: ...

    @abstractmethod
    def predictor(self, network: nn.Module) -> Predictor: ...

    @abstractmethod
    def checkpoint_gradients(self, network: nn.Module) -> None:
        """Has the network compute its blocks again in the backward pass instead of keeping what they computed."""

    @abstractmethod
    def render(self, network: nn.Module, prompts: Sequence[str], steps: int, guidance: float) -> list[Image.Image]: ...

    @abstractmethod
    def save(self, network: nn.Module, directory: Path) -> None:
        """Writes the pipeline with this network as a diffusers directory, safetensors only."""

    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """Width and height that the pipeline renders unless told otherwise."""


def weights_digest(*modules: nn.Module) -> str:
    """SHA-256 over names and bytes of the weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
