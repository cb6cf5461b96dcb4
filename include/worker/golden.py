"""The check of a version that was just loaded, before it gets any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from PIL import Image

from include.worker.pipeline import Pipeline
from models.pipelines.golden import GoldenShot, no_pause, read_golden

#: What a version without a record renders: any model can do it, or says that it can't.
SIDE, STEPS = 64, 2


class GoldenError(ValueError):
    """The version does not render what it should; no retry helps."""


class Check(Protocol):
    def __call__(self, directory: Path, pipeline: Pipeline, pause: Callable[[], object] = no_pause) -> None:
        """Raises :class:`GoldenError` for a pipeline that must not serve. ``pause`` is called before each call of it."""


def no_check(directory: Path, pipeline: Pipeline, pause: Callable[[], object] = no_pause) -> None:
    """Every pipeline that loads may serve."""


def golden_check(directory: Path, pipeline: Pipeline, pause: Callable[[], object] = no_pause) -> None:
    """Renders the golden image that is recorded with the version and compares; without a record the image only must not be blank,
    which it is where the network gives no finite numbers."""
    golden = read_golden(directory)
    if golden is None:
        _check_unrecorded(pipeline, pause)
        return
    image = golden.render(pipeline, pause)
    _check_blank(image)
    distance, allowed = golden.distance(image), golden.allowed(pipeline.backend)
    if distance > allowed:
        raise GoldenError(
            f"its golden image, {golden.prompt!r} with seed {golden.seed}, differs by {distance:.1f} of 255 from the recorded one on "
            f"{pipeline.backend}; at most {allowed:g} is allowed"
        )


def _check_unrecorded(pipeline: Pipeline, pause: Callable[[], object]) -> None:
    try:
        image = GoldenShot(width=SIDE, height=SIDE, steps=STEPS).render(pipeline, pause)
    except ValueError:
        return  # it can't do that shape, which is no fault of it
    _check_blank(image)


def _check_blank(image: Image.Image) -> None:
    if image.convert("RGB").getcolors(1) is not None:
        raise GoldenError("it renders a blank image; its weights give no finite numbers")
