"""Earlier images by what their prompts mean, for requests that under load take one that is nearly what they asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.events import ImageResult
from include.worker.pipeline import Pipeline

PER_SHAPE, SHAPES = 128, 512  #: images of a tenant, model and shape that are known; of such shapes

Shape = tuple[object, ...]


class Vectors(Protocol):
    def vector(self, pipeline: Pipeline, model: ModelRef, prompt: str) -> Tensor | None:
        """What the prompt means, as a vector of length 1; None where the pipeline does not tell."""


@dataclass(frozen=True)
class Match:
    image: ImageResult
    similarity: float  #: cosine of the prompts' vectors


class NearIndex:
    """In this worker's memory, of its own results, the newest of each tenant and shape. A tenant is never given another's."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self._lock = threading.Lock()
        self._known: OrderedDict[Shape, deque[tuple[Tensor, ImageResult]]] = OrderedDict()

    def remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
        if task.init_image is not None or image.index or image.flags:
            return  # its prompt does not describe it, or not alone
        vector = self.vectors.vector(pipeline, model, task.prompt)
        if vector is None:
            return
        with self._lock:
            known = self._known.setdefault(_shape(task, model), deque(maxlen=PER_SHAPE))
            known.append((vector, image))
            self._known.move_to_end(_shape(task, model))
            while len(self._known) > SHAPES:
                self._known.popitem(last=False)

    def find(self, task: RenderTask, model: ModelRef, pipeline: Pipeline) -> Match | None:
        """The image whose prompt is most like the task's, if it is as like as ``task.near`` asks."""
        with self._lock:
            known = list(self._known.get(_shape(task, model), ()))
        vector = self.vectors.vector(pipeline, model, task.prompt) if known else None
        if task.near is None or vector is None:
            return None
        similarities = torch.stack([other for other, _ in known]) @ vector
        best = int(similarities.argmax())
        similarity = float(similarities[best])
        return Match(known[best][1], similarity) if similarity >= task.near else None


def _shape(task: RenderTask, model: ModelRef) -> Shape:
    """What must be the same, beside the prompt being alike. Fewer steps or another seed than were asked for do."""
    size = task.upscale_to or (task.width, task.height)
    return (task.tenant, model.digest, size, task.variant, task.image_format, task.negative_prompt)
