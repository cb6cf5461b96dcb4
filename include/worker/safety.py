"""Looking at finished images before they are stored: a classifier from a local directory of safetensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from include.registry.errors import ModelRejectedError
from include.registry.files import list_files
from include.worker.ports import NoSafetyChecker, SafetyChecker, SafetyMode

log = logging.getLogger(__name__)

UNCHECKED = "unchecked"  #: flag of an image that could not be looked at


class SafetyConfigError(ValueError):
    """The checker that the settings ask for can't be had; what it would have blocked must not be served."""


class ImageClassifier:
    """An image classification model of transformers, such as a ViT. Its known classes only, no code and no pickle from the directory.

    :param labels: classes that are flagged, as the model names them, in any case
    :param threshold: least probability of a class that is flagged
    :raises SafetyConfigError: where it can't be loaded, or knows none of the labels
    """

    def __init__(self, directory: Path, mode: SafetyMode, labels: Sequence[str], *, threshold: float = 0.5, device: str = "cpu") -> None:
        self.mode = mode
        self.threshold = threshold
        self.device = device
        self._processor, self._model = _load(directory, device)
        known = {index: str(name) for index, name in self._model.config.id2label.items()}
        wanted = {label.lower() for label in labels}
        self._flagged = {index: name for index, name in known.items() if name.lower() in wanted}
        if not self._flagged:
            raise SafetyConfigError(
                f"ATELIER_SAFETY_LABELS: {directory} knows none of {', '.join(sorted(wanted))}; it knows {', '.join(known.values())}"
            )

    def check(self, images: Sequence[Image]) -> list[tuple[str, ...]]:
        """What is flagged, by image. In the mode flag a failure is a flag of its own; in the mode block it raises."""
        try:
            return self._classified(images)
        except Exception:
            if self.mode is SafetyMode.BLOCK:
                raise
            log.exception("the safety checker failed; the images are flagged %s", UNCHECKED)
            return [(UNCHECKED,) for _ in images]

    def _classified(self, images: Sequence[Image]) -> list[tuple[str, ...]]:
        import torch

        inputs = self._processor(images=[image.convert("RGB") for image in images], return_tensors="pt").to(self.device)
        with torch.no_grad():
            probabilities = self._model(**inputs).logits.float().softmax(-1)
        if not bool(torch.isfinite(probabilities).all()):
            raise ArithmeticError("the safety checker gives no finite numbers")
        return [tuple(name for index, name in self._flagged.items() if row[index] >= self.threshold) for row in probabilities.cpu()]


def safety_checker(
    mode: SafetyMode, directory: Path | None, labels: Sequence[str], *, threshold: float = 0.5, device: str = "cpu"
) -> SafetyChecker:
    """What the settings ask for. Raises :class:`SafetyConfigError`: a worker without the checker it should have must not serve."""
    if mode is SafetyMode.OFF:
        return NoSafetyChecker()
    if directory is None:
        raise SafetyConfigError(f"ATELIER_SAFETY={mode} needs ATELIER_SAFETY_MODEL, a directory with an image classifier in safetensors")
    return ImageClassifier(directory, mode, labels, threshold=threshold, device=device)


def _load(directory: Path, device: str) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForImageClassification  # seconds to import, and only a checker needs it

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        list_files(directory)  # refuses links, pickles and code
        processor = AutoImageProcessor.from_pretrained(str(directory), **local)
        model = AutoModelForImageClassification.from_pretrained(str(directory), use_safetensors=True, **local)
    except (ModelRejectedError, OSError, ValueError, KeyError) as error:
        raise SafetyConfigError(f"ATELIER_SAFETY_MODEL: {directory} holds no image classifier that can be loaded: {error}") from error
    return processor, model.to(device).eval()
