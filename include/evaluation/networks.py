"""What images are compared by: networks behind two small ports, each with a name that goes with every figure measured on it.

The shipped network of :mod:`models.training.contrastive` is both. A local directory of a CLIP in safetensors takes its place where one is
given; nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BertModel, PreTrainedTokenizerBase

from models.networks.two_tower import load_two_tower
from models.pipelines.text_encoder import encode_all, load_text_encoder, quiet
from models.pipelines.text_to_image import UNSAFE_SUFFIXES
from models.training.contrastive import EVALUATOR

BATCH = 64  #: images embedded at a time
#: Mean and standard deviation of each channel that CLIP was trained with (Radford et al. 2021).
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class FeatureNet(Protocol):
    """Says by numbers what an image looks like."""

    name: str  #: of the network and its weights; figures of two names can't be compared

    def features(self, images: np.ndarray) -> np.ndarray:
        """``(N, H, W, 3)`` uint8 as ``(N, d)`` float64, each row of length √d."""


class AgreementModel(Protocol):
    """Says how well an image and a text go together."""

    name: str  #: as of a :class:`FeatureNet`

    def similarity(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        """``(N,)`` cosines, of each image ``(N, H, W, 3)`` uint8 with the caption at its place."""


class EvaluationNetwork(FeatureNet, AgreementModel, Protocol):
    """Both in one."""


class TwoTowerNetwork:
    """The shipped network, or one of the same kind. Images of other sides are resized to those it was trained on."""

    def __init__(self, directory: Path = EVALUATOR) -> None:
        self._network, digest = load_two_tower(directory)
        self.name = f"two-tower-{digest[:12]}"

    @cached_property
    def _text(self) -> tuple[BertModel, PreTrainedTokenizerBase]:
        return load_text_encoder()

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        return _rows([self._network.features(part) for part in self._parts(images)])

    @torch.no_grad()
    def similarity(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        shown = torch.cat([self._network.embed_images(part) for part in self._parts(images)])
        said = self._network.embed_texts(encode_all(*self._text, captions, 1).pooled)
        return np.asarray((shown * said).sum(dim=1).double())

    def _parts(self, images: np.ndarray) -> list[torch.Tensor]:
        return [part / 127.5 - 1 for part in _resized(images, self._network.config.sample_size)]


class ClipNetwork:
    """A CLIP from a local directory as ``CLIPModel.save_pretrained`` and its tokenizer leave it."""

    def __init__(self, directory: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizerFast

        with quiet():
            self._model = CLIPModel.from_pretrained(str(directory), local_files_only=True, use_safetensors=True).eval()
            self._tokenizer = CLIPTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(directory.glob("*.safetensors")))).hexdigest()
        self.name = f"clip-{digest[:12]}"
        self._side = int(self._model.config.vision_config.image_size)

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        embedded = self._embed(images)
        return _rows([embedded * embedded.shape[1] ** 0.5])

    @torch.no_grad()
    def similarity(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        words = self._tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        inner = self._model.text_model(input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        said = F.normalize(self._model.text_projection(inner.pooler_output), dim=1)
        return np.asarray((self._embed(images) * said).sum(dim=1).double())

    def _embed(self, images: np.ndarray) -> torch.Tensor:
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (_CLIP_MEAN, _CLIP_STD))
        parts = [(part / 255 - mean) / deviation for part in _resized(images, self._side)]
        shown = [self._model.visual_projection(self._model.vision_model(pixel_values=part).pooler_output) for part in parts]
        return F.normalize(torch.cat(shown), dim=1)


def load_network(directory: str = "") -> EvaluationNetwork:
    """The shipped network, or the one in a directory. Raises :class:`ValueError` for a directory that holds neither kind."""
    if not directory:
        return TwoTowerNetwork()
    place = Path(directory)
    if (place / "training.json").is_file():
        return TwoTowerNetwork(place)
    config = place / "config.json"
    kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
    if kind != "clip" or not any(place.glob("*.safetensors")):
        raise ValueError(f"network: {directory} holds neither a two-tower network with its training.json nor a CLIP in safetensors")
    if unsafe := sorted(path.name for path in place.iterdir() if path.suffix.lower() in UNSAFE_SUFFIXES):
        raise ValueError(f"network: {directory} holds {', '.join(unsafe)}; only safetensors are loaded, take the others out")
    return ClipNetwork(place)


def _resized(images: np.ndarray, side: int) -> list[torch.Tensor]:
    """Float ``(B, 3, side, side)`` in 0..255, some images at a time."""
    parts = []
    for start in range(0, len(images), BATCH):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH].transpose(0, 3, 1, 2))).float()
        same = part.shape[-2:] == (side, side)
        parts.append(part if same else F.interpolate(part, size=(side, side), mode="bilinear", antialias=True).clamp(0, 255))
    return parts


def _rows(parts: list[torch.Tensor]) -> np.ndarray:
    return np.asarray(torch.cat(parts).double())
