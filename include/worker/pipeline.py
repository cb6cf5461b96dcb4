"""What the worker needs of a pipeline: a render whose loop the worker owns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from PIL.Image import Image


class RenderState(Protocol):
    """A render between two steps."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int: ...

    def select(self, indices: Sequence[int]) -> Self:
        """The render without the other items."""


class Pipeline(Protocol):
    """Items of a batch do not influence each other: one rendered alone gives the same image within the model's stated tolerance."""

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]) -> Any:
        """Conditioning of one item a prompt."""

    def prepare(self, conditioning: Any, seeds: Sequence[int], width: int, height: int, steps: int) -> RenderState:
        """Initial noise. Raises :class:`ValueError` for a shape that the model can't render."""

    def step(self, state: Any) -> RenderState:
        """One denoising step of all items; the state given stays as it was."""

    def decode(self, state: Any) -> list[Image]: ...


class Loader(Protocol):
    def __call__(self, directory: Path, device: str) -> Pipeline:
        """Raises :class:`ValueError` for a directory that must not or can't be loaded."""


def load_torch(directory: Path, device: str) -> Pipeline:
    from models.pipelines.text_to_image import load_pipeline  # torch and diffusers take seconds to import

    return load_pipeline(directory, device=device)
