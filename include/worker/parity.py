"""Whether images that were made another way are the same images, and the gate that lets a shape render in batches only then."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.contracts.dispatch import BatchKey, ModelRef
from include.worker.kept import write_whole
from include.worker.pipeline import Pipeline, RenderState
from include.worker.ports import UnwantedError, always

if TYPE_CHECKING:
    from models.backends.base import Tolerance

log = logging.getLogger(__name__)

#: Steps of a check: an item that influences another one does so at every step.
STEPS = 2
GUIDANCE = 3.0
MAX_MODELS, MAX_SHAPES = 32, 4  #: shapes asked for last, of each of so many models, that a coming version is tried in
#: Of different lengths, for padding to the longest is how items of a batch come to influence each other.
PROMPTS = ("red heart", "a cat", "a small wooden house beside a river under a cloudy sky", "rocket", "pizza with olives", "blue")


class Deviation(BaseModel):
    """Absolute differences of 8-bit pixel values, 0..255."""

    model_config = ConfigDict(frozen=True)

    max: float = Field(ge=0, le=255, description="Of the worst value.")
    mean: float = Field(ge=0, le=255, description="The mean of the worst image.")
    average: float = Field(ge=0, le=255, description="The mean of all images.")

    def within(self, tolerance: Tolerance) -> bool:
        return self.max <= tolerance.max and self.mean <= tolerance.mean

    def __str__(self) -> str:
        return f"max {self.max:.0f}, mean {self.mean:.2f} of the worst image, {self.average:.2f} of all, of 255"


def deviation(images: Sequence[Image], references: Sequence[Image]) -> Deviation:
    """Of each image from the reference in its place. Raises :class:`ValueError` where there are not as many of the same sizes."""
    differences = [_difference(image, reference) for image, reference in zip(images, references, strict=True)]
    means = [float(each.mean()) for each in differences]
    return Deviation(max=max(float(each.max()) for each in differences), mean=max(means), average=sum(means) / len(means))


def _difference(image: Image, reference: Image) -> np.ndarray:
    if image.size != reference.size:
        raise ValueError(f"an image of {image.size} pixels can't be compared with one of {reference.size}")
    return np.abs(np.asarray(image.convert("RGB"), dtype=float) - np.asarray(reference.convert("RGB"), dtype=float))


def begin(pipeline: Pipeline, items: Sequence[int], width: int, height: int, *, steps: int, guidance: float = GUIDANCE) -> RenderState:
    """Test items, each given by a number that stands for its prompt and seed, before their first step."""
    prompts = [PROMPTS[item % len(PROMPTS)] for item in items]
    conditioning = pipeline.encode(prompts, [""] * len(items), [guidance] * len(items))
    return pipeline.prepare(conditioning, list(items), width, height, steps)


def render(
    pipeline: Pipeline,
    items: Sequence[int],
    width: int,
    height: int,
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    wanted: Callable[[], bool] = always,
) -> list[Image]:
    """Images of test items in one batch. Raises :class:`UnwantedError` as soon as ``wanted`` says no, which is asked before each call."""
    _go_on(wanted)
    state = begin(pipeline, items, width, height, steps=steps, guidance=guidance)
    for _ in range(steps):
        _go_on(wanted)
        state = pipeline.step(state)
    _go_on(wanted)
    return pipeline.decode(state)


def _go_on(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise UnwantedError


def batch_deviation(
    pipeline: Pipeline,
    size: int,
    width: int,
    height: int,
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    wanted: Callable[[], bool] = always,
) -> Deviation:
    """Of ``size`` items rendered together from each of them rendered alone. Raises :class:`UnwantedError` as :func:`render`."""

    def images(items: Sequence[int]) -> list[Image]:
        return render(pipeline, items, width, height, steps=steps, guidance=guidance, wanted=wanted)

    return deviation(images(range(size)), [images([item])[0] for item in range(size)])


class _Proof(BaseModel):
    """What was found of a batch shape."""

    model_config = ConfigDict(frozen=True)

    proven: int = Field(1, ge=1, description="Items that may render together; 1 means that batches differ.")
    refused: int | None = Field(None, ge=2, description="The smallest batch that was seen to differ.")
    deviation: Deviation | None = Field(None, description="Of the batch that was compared last.")

    def allows(self, size: int) -> int | None:
        if self.refused is not None:
            return min(size, self.proven, self.refused - 1)
        return size if size <= self.proven else None


class AskedShapes:
    """The batches that were asked for lately, by name of their model: those that its next version will be asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: OrderedDict[str, OrderedDict[tuple[int, int, bool], tuple[BatchKey, set[int]]]] = OrderedDict()

    def note(self, model: ModelRef, key: BatchKey, size: int) -> None:
        with self._lock:
            shapes = self._models.setdefault(model.name, OrderedDict())
            self._models.move_to_end(model.name)
            shape = (key.width, key.height, key.guided)
            shapes.setdefault(shape, (key, set()))[1].add(size)
            shapes.move_to_end(shape)
            while len(shapes) > MAX_SHAPES:
                shapes.popitem(last=False)
            while len(self._models) > MAX_MODELS:
                self._models.popitem(last=False)

    def of(self, model: ModelRef) -> list[tuple[BatchKey, list[int]]]:
        """Those of the model's name, the last ones first; sizes from the largest down."""
        with self._lock:
            shapes = self._models.get(model.name, OrderedDict())
            return [(key, sorted(sizes, reverse=True)) for key, sizes in reversed(shapes.values())]


class BackendNames(Protocol):
    def __call__(self, pipeline: Pipeline, width: int, height: int) -> str:
        """What would run the pipeline at that size."""


def ran_last(pipeline: Pipeline, width: int, height: int) -> str:
    return pipeline.backend


class BatchParity:
    """The parity gate (:class:`include.worker.ports.ParityGate`) with a memory on disk: a file for each model, shape and backend.

    :param folder: what was found on machines like this one
    :param tolerance: of batched images against single ones
    """

    def __init__(self, folder: Path, tolerance: Tolerance, backend_name: BackendNames = ran_last) -> None:
        self.folder = folder
        self.tolerance = tolerance
        self.backend_name = backend_name
        self._proofs: dict[Path, _Proof] = {}
        self._shapes = AskedShapes()

    def allows(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int) -> int | None:
        if size <= 1:
            return 1
        self._shapes.note(model, key, size)
        return self._known(self._path(pipeline, model, key)).allows(size)

    def check(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool] = always) -> int:
        path = self._path(pipeline, model, key)
        known, shape = self._known(path), _words(model, key, path)
        try:
            return self._compare(pipeline, model, key, size, wanted)
        except UnwantedError:
            log.info("parity: %s: nobody waits for batches of %d any more; they are compared when somebody does", shape, size)
        except Exception as error:  # what fails here renders alone, where it fails with a reason of its own if it must
            log.warning("parity: %s: batches of %d can't be compared and render alone for now: %s", shape, size, error)
            self._proofs[path] = known.model_copy(update={"refused": size})
        return known.proven

    def rehearse(self, pipeline: Pipeline, model: ModelRef, wanted: Callable[[], bool] = always) -> None:
        for key, sizes in self._shapes.of(model):
            try:
                self._rehearse_shape(pipeline, model, key, sizes, wanted)
            except UnwantedError:
                log.info("parity: %s is waited for; its batches are compared as they come", model.key)
                return
            except Exception as error:  # such as memory, which is short while another version renders beside it: nothing is concluded
                log.warning("parity: %s at %dx%d is not compared ahead: %s", model.key, key.width, key.height, error)

    def _rehearse_shape(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, sizes: list[int], wanted: Callable[[], bool]) -> None:
        """The largest batch that agrees proves the smaller ones too."""
        path = self._path(pipeline, model, key)
        for size in sizes:
            known = self._known(path)
            refused = known.refused is not None and size >= known.refused
            if size <= known.proven or (not refused and self._compare(pipeline, model, key, size, wanted) == size):
                return

    def _compare(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool]) -> int:
        """Raises :class:`UnwantedError`, and whatever the pipeline raises."""
        path = self._path(pipeline, model, key)
        known, shape = self._known(path), _words(model, key, path)
        found = batch_deviation(pipeline, size, key.width, key.height, guidance=GUIDANCE if key.guided else 1.0, wanted=wanted)
        if found.within(self.tolerance):
            log.info("parity: %s: batches up to %d agree with single renders (%s)", shape, size, found)
            self._remember(path, known.model_copy(update={"proven": max(size, known.proven), "deviation": found}))
            return size
        log.warning("parity: %s: a batch of %d differs from single renders (%s); such batches render alone", shape, size, found)
        self._remember(path, known.model_copy(update={"refused": size, "deviation": found}))
        return known.proven

    def _path(self, pipeline: Pipeline, model: ModelRef, key: BatchKey) -> Path:
        shape = f"{key.width}x{key.height}-{'guided' if key.guided else 'plain'}"
        return self.folder / model.digest / shape / f"{self.backend_name(pipeline, key.width, key.height)}.json"

    def _known(self, path: Path) -> _Proof:
        if path not in self._proofs:
            try:
                self._proofs[path] = _Proof.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):  # not there yet, or damaged: found out anew
                self._proofs[path] = _Proof()
        return self._proofs[path]

    def _remember(self, path: Path, proof: _Proof) -> None:
        self._proofs[path] = proof
        try:
            write_whole(path, proof.model_dump_json())
        except OSError as error:
            log.warning("parity: %s is not remembered on disk: %s", path.stem, error)


def _words(model: ModelRef, key: BatchKey, path: Path) -> str:
    return f"{model.key} at {key.width}x{key.height} on {path.stem}"
