"""What images are compared by: networks behind two small ports, each with a name that goes with every figure measured on it.

The shipped network of :mod:`models.training.contrastive` is both. A local directory of a CLIP in safetensors takes its place where one is
given, or that of an Inception v3, which knows no texts and leaves agreement to the shipped one; nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BertModel, PreTrainedTokenizerBase

from models.networks.inception import FEATURES, load_inception, normalisation
from models.networks.inception import SIDE as INCEPTION_SIDE
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

    agreement_name: str  #: as the name of a :class:`FeatureNet`

    def similarity(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        """``(N,)`` cosines, of each image ``(N, H, W, 3)`` uint8 with the caption at its place."""


class EvaluationNetwork(FeatureNet, AgreementModel, Protocol):
    """Both in one."""


class TwoTowerNetwork:
    """The shipped network, or one of the same kind. Images of other sides are resized to those it was trained on."""

    def __init__(self, directory: Path = EVALUATOR) -> None:
        self._network, digest = load_two_tower(directory)
        self.name = self.agreement_name = f"two-tower-{digest[:12]}"

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
        self.name = self.agreement_name = f"clip-{_digest(directory)}"
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


class InceptionNetwork:
    """Features of an Inception v3 from a local directory, agreement by the shipped network.

    The directory is as timm publishes it: ``model.safetensors`` and a ``config.json`` that says ``"architecture": "inception_v3"``.
    """

    def __init__(self, directory: Path) -> None:
        self._network = load_inception(directory / "model.safetensors")
        self._mean, self._deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation(directory))
        self._agreement = TwoTowerNetwork()
        self.name, self.agreement_name = f"inception-v3-{_digest(directory)}", self._agreement.agreement_name

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        parts = [self._network((part / 255 - self._mean) / self._deviation) for part in _resized(images, INCEPTION_SIDE)]
        return _rows([F.normalize(part, dim=1) * FEATURES**0.5 for part in parts])

    def similarity(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        return self._agreement.similarity(images, captions)


def load_network(directory: str = "") -> EvaluationNetwork:
    """The shipped network, or the one in a directory. Raises :class:`ValueError` for a directory that holds none of the kinds."""
    if not directory:
        return TwoTowerNetwork()
    place = Path(directory)
    if (place / "training.json").is_file():
        return TwoTowerNetwork(place)
    config = place / "config.json"
    told = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    made = _KINDS.get(told.get("model_type") or told.get("architecture", ""))
    if made is None or not any(place.glob("*.safetensors")):
        kinds = "a two-tower network with its training.json, nor a CLIP or an Inception v3 in safetensors"
        raise ValueError(f"network: {directory} holds neither {kinds}")
    if unsafe := sorted(path.name for path in place.iterdir() if path.suffix.lower() in UNSAFE_SUFFIXES):
        raise ValueError(f"network: {directory} holds {', '.join(unsafe)}; only safetensors are loaded, take the others out")
    return made(place)


_KINDS: dict[str, Callable[[Path], EvaluationNetwork]] = {"clip": ClipNetwork, "inception_v3": InceptionNetwork}


def _digest(directory: Path) -> str:
    """Names the weights of a directory."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(directory.glob("*.safetensors")))).hexdigest()[:12]


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
