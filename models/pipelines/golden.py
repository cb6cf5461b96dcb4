"""A version's golden image: what it must render from a stated prompt and seed wherever it is loaded.

The record lies in the version's directory as ``golden.json``, so the digest of the files covers it. Whoever exports a pipeline writes it
with :func:`write_golden`, before the version is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

FILE = "golden.json"
SIDE = 16  #: pixels of the thumbnail that is compared
PROMPT = "a red heart on a white background"


class Renders(Protocol):
    """The part of a pipeline that a golden image takes."""

    @property
    def backend(self) -> str: ...

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]) -> Any: ...

    def prepare(self, conditioning: Any, seeds: Sequence[int], width: int, height: int, steps: int) -> Any: ...

    def step(self, state: Any) -> Any: ...

    def decode(self, state: Any) -> list[Image.Image]: ...


def no_pause() -> None:
    pass


class GoldenShot(BaseModel):
    """What is rendered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(PROMPT, max_length=2000)
    seed: int = Field(0, ge=0, lt=2**63)
    steps: int = Field(4, ge=1, le=50)
    guidance: float = Field(2.0, ge=0, le=30)
    width: int = Field(ge=16, le=1024)
    height: int = Field(ge=16, le=1024)

    def render(self, pipeline: Renders, pause: Callable[[], object] = no_pause) -> Image.Image:
        """``pause`` is called before each call of the pipeline."""
        pause()
        conditioning = pipeline.encode([self.prompt], [""], [self.guidance])
        state = pipeline.prepare(conditioning, [self.seed], width=self.width, height=self.height, steps=self.steps)
        while min(state.progress) < state.steps:
            pause()
            state = pipeline.step(state)
        pause()
        return pipeline.decode(state)[0]


class Golden(GoldenShot):
    """And what came out where the version was made."""

    thumbnail: str = Field(pattern=f"^[0-9a-f]{{{2 * 3 * SIDE * SIDE}}}$", description="The image at 16x16, RGB, as hex.")
    backend: str = Field(max_length=64, description="What rendered it.")
    tolerance: float = Field(4.0, gt=0, le=255, description="Largest mean difference of the thumbnails, in 0..255, on the same backend.")
    lossy_tolerance: float = Field(12.0, gt=0, le=255, description="The same on any other backend, which may round otherwise.")

    def distance(self, image: Image.Image) -> float:
        """Mean absolute difference of the thumbnails, in 0..255."""
        return float(np.abs(_pixels(image) - np.frombuffer(bytes.fromhex(self.thumbnail), np.uint8).astype(float)).mean())

    def allowed(self, backend: str) -> float:
        return self.tolerance if backend == self.backend else self.lossy_tolerance


def write_golden(directory: Path, pipeline: Renders, shot: GoldenShot) -> Golden:
    """Renders the shot and puts the record into the pipeline's directory."""
    thumbnail = _pixels(shot.render(pipeline)).astype(np.uint8).tobytes().hex()
    golden = Golden(**shot.model_dump(), thumbnail=thumbnail, backend=pipeline.backend)
    (directory / FILE).write_text(golden.model_dump_json(), encoding="utf-8")
    return golden


def read_golden(directory: Path) -> Golden | None:
    """None where the version has no record. Raises :class:`ValueError` where that is none."""
    path = directory / FILE
    return Golden.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float).ravel()
