"""What a render may be helped or held back by, each with the plain behaviour that a worker has without it.

But for :meth:`ParityGate.rehearse`, all of it is called in the rendering thread, between two steps: an implementation that has to wait
for something bounds how long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from PIL.Image import Image

from include.contracts.dispatch import BatchKey, ModelRef, RenderTask
from include.contracts.events import ImageResult
from include.worker.pipeline import Pipeline


def always() -> bool:
    return True


class UnwantedError(Exception):
    """Nobody waits for what is being done any more."""


class ParityGate(Protocol):
    """Lets images render together only where a batch was seen to give what single renders give."""

    def allows(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int) -> int | None:
        """The most images of this shape, up to ``size``, that are known to agree on ``pipeline.backend``: 1 where they don't agree.
        None: not known yet. Only looks it up."""

    def check(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool] = always) -> int:
        """Renders a batch and its items alone, compares them, says so in the log and remembers it; answers as :meth:`allows`.
        Never raises: what fails in a batch renders alone.

        :param wanted: asked before each step; once it says no, nothing more is rendered and nothing is concluded
        """

    def rehearse(self, pipeline: Pipeline, model: ModelRef, wanted: Callable[[], bool] = always) -> None:
        """Checks for a version that serves nobody yet the batches in which others of its name render, so that its first leases need not
        wait for that. Never raises; ends as soon as ``wanted`` says no."""


class NoParityGate:
    """Every batch is as good as single renders."""

    def allows(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int) -> int | None:
        return size

    def check(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool] = always) -> int:
        return size

    def rehearse(self, pipeline: Pipeline, model: ModelRef, wanted: Callable[[], bool] = always) -> None:
        return


@dataclass(frozen=True)
class Encoded:
    """Prompts as the pipeline wants them."""

    conditioning: Any  #: what :meth:`Pipeline.prepare` takes, an item a prompt
    hits: Sequence[bool]  #: by prompt: whether all of its embeddings came from a cache


class PromptEncoder(Protocol):
    def encode(
        self, pipeline: Pipeline, model: ModelRef, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]
    ) -> Encoded:
        """Conditioning equal to that of :meth:`Pipeline.encode`, bit for bit; raises what that raises and nothing else."""


class PlainEncoder:
    """Encodes every prompt anew."""

    def encode(
        self, pipeline: Pipeline, model: ModelRef, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]
    ) -> Encoded:
        return Encoded(pipeline.encode(prompts, negative_prompts, guidance), [False] * len(prompts))


@dataclass(frozen=True)
class Found:
    """An image that need not be rendered."""

    image: ImageResult  #: stored under the request's own key by now
    cache: str  #: what goes into :attr:`Usage.cache_hits`: ``result`` or ``near``
    degraded: tuple[str, ...] = ()  #: what is less than was asked for, in words


class ResultCache(Protocol):
    def find(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
        """Image ``index`` of the request from an earlier result, copied to the request's own key. None where there is none, also
        where the store or the cache is away."""

    def remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
        """``image`` was rendered and stored, is complete and was not blocked. Never raises."""


class NoResultCache:
    """Renders everything."""

    def find(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
        return None

    def remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
        return


class SafetyMode(StrEnum):
    OFF = "off"  #: nothing is looked at
    FLAG = "flag"  #: what was seen goes into the result
    BLOCK = "block"  #: a request with a flagged image fails, and that image is not stored


class SafetyChecker(Protocol):
    @property
    def mode(self) -> SafetyMode: ...

    def check(self, images: Sequence[Image]) -> list[tuple[str, ...]]:
        """What is to be flagged, by image; empty for nothing. Not called where the mode is off. What it raises fails the render."""


class NoSafetyChecker:
    mode = SafetyMode.OFF

    def check(self, images: Sequence[Image]) -> list[tuple[str, ...]]:
        return [() for _ in images]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All of them together, as an execution is given them."""

    parity: ParityGate = field(default_factory=NoParityGate)
    prompts: PromptEncoder = field(default_factory=PlainEncoder)
    results: ResultCache = field(default_factory=NoResultCache)
    safety: SafetyChecker = field(default_factory=NoSafetyChecker)
