"""What the worker needs of a pipeline: a render whose loop the worker owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from PIL.Image import Image


@dataclass(frozen=True)
class Start:
    """Images to start from, one an item."""

    images: Sequence[Image]  #: RGB, of the size that is rendered
    strength: float  #: in (0, 1]: the share of the steps that is run; 1 forgets the image


class RenderState(Protocol):
    """A render between two steps. Items of one state are of one batch key; their steps may differ once others have joined."""

    @property
    def steps(self) -> int:
        """Steps that each item takes in all."""

    @property
    def progress(self) -> tuple[int, ...]:
        """Steps done, by item. An item is finished at ``steps``."""

    def select(self, indices: Sequence[int]) -> Self:
        """The render without the other items."""

    def join(self, other: Self) -> Self:
        """Both renders' items as one, the other's after ours. Only for a pipeline that says ``joins``."""

    def dump(self) -> bytes:
        """All of it as safetensors; :meth:`Pipeline.restore` reads it back, bit for bit."""


class Pipeline(Protocol):
    """Items of a batch do not influence each other: one rendered alone gives the same image within the model's stated tolerance."""

    @property
    def backend(self) -> str:
        """What runs the network, such as ``torch-eager``."""

    @property
    def joins(self) -> bool:
        """Whether a state may hold items that are at different steps, so that a request can join a running batch."""

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]) -> Any:
        """Conditioning of one item a prompt."""

    def prepare(
        self, conditioning: Any, seeds: Sequence[int], width: int, height: int, steps: int, start: Start | None = None
    ) -> RenderState:
        """Initial noise. Raises :class:`ValueError` for a shape, or a start, that the model can't render."""

    def step(self, state: Any) -> RenderState:
        """One denoising step of every item that is not finished; the state given stays as it was."""

    def decode(self, state: Any) -> list[Image]:
        """The images of the items, each as it is now; finished ones are done."""

    def preview(self, state: Any) -> list[Image]:
        """What the items look to become, cheaply; may be smaller than the images."""

    def restore(self, data: bytes) -> RenderState:
        """Reads what :meth:`RenderState.dump` wrote. Raises :class:`ValueError` for anything else."""


@runtime_checkable
class Adaptable(Protocol):
    """A pipeline that takes LoRA adapters. What has no such method is rendered with as it is."""

    def with_adapters(self, adapters: Sequence[tuple[Path, float]]) -> Pipeline:
        """The same weights with these adapters, directories of safetensors, each at its weight.

        Views of one pipeline may be used in turn, step by step, by one thread at a time: each puts its own adapters on first, the
        pipeline itself none. Without adapters the images are those from before any was loaded, bit for bit.

        :raises ValueError: where an adapter is not one, or does not fit the model
        """

    def holds(self, adapter: Path) -> bool:
        """Whether that adapter is loaded, so that nothing reads its files again."""


class Loader(Protocol):
    def __call__(self, directory: Path, device: str) -> Pipeline:
        """Raises :class:`ValueError` for a directory that must not or can't be loaded."""


def load_torch(directory: Path, device: str) -> Pipeline:
    """Whatever pipeline ``model_index.json`` names, run by torch as it is; its steps can be left in the middle."""
    from models.backends.attached import denoiser_of
    from models.pipelines.interruption import make_interruptible
    from models.pipelines.loading import load_text_to_image  # torch and diffusers take seconds to import

    pipeline = load_text_to_image(directory, device)
    make_interruptible(denoiser_of(pipeline))
    return pipeline
