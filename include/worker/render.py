"""A render as a resumable object: its owner advances it step by step, and may drop items between two steps."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from include.contracts.dispatch import RenderTask
from include.worker.pipeline import Pipeline, RenderState

MAX_SEED = 2**63


@dataclass(frozen=True)
class Item:
    """One image to render."""

    task: RenderTask
    index: int  #: position among its request's images

    @property
    def seed(self) -> int:
        return (self.task.seed + self.index) % MAX_SEED


def items_of(tasks: Sequence[RenderTask]) -> list[Item]:
    return [Item(task, index) for task in tasks for index in range(task.images)]


class Render:
    """Items of one batch key. ``device_s`` counts the seconds its own calls took, not the time between them."""

    def __init__(self, pipeline: Pipeline, items: Sequence[Item]) -> None:
        self.pipeline = pipeline
        self.items = list(items)
        self.device_s = 0.0
        self.state: RenderState | None = None
        self.steps = items[0].task.steps

    @property
    def step(self) -> int:
        return self.state.step if self.state else 0

    @property
    def done(self) -> bool:
        return not self.items or self.step >= self.steps

    def start(self) -> None:
        """Encode the prompts and draw the noise."""
        began = time.perf_counter()
        tasks = [item.task for item in self.items]
        conditioning = self.pipeline.encode(
            [task.prompt for task in tasks], [task.negative_prompt for task in tasks], [task.guidance for task in tasks]
        )
        seeds = [item.seed for item in self.items]
        self.state = self.pipeline.prepare(conditioning, seeds, width=tasks[0].width, height=tasks[0].height, steps=self.steps)
        self.device_s += time.perf_counter() - began

    def advance(self) -> None:
        """One denoising step of all items; the first call starts the render."""
        if self.state is None:
            self.start()
        began = time.perf_counter()
        self.state = self.pipeline.step(self.state)
        self.device_s += time.perf_counter() - began

    def drop(self, request_ids: Collection[str]) -> None:
        """Go on without these requests."""
        kept = [position for position, item in enumerate(self.items) if item.task.request_id not in request_ids]
        if len(kept) == len(self.items):
            return
        self.items = [self.items[position] for position in kept]
        if self.state is not None and kept:
            self.state = self.state.select(kept)

    def images(self) -> list[tuple[Item, Image]]:
        """The finished images."""
        began = time.perf_counter()
        images = self.pipeline.decode(self.state) if self.items else []
        self.device_s += time.perf_counter() - began
        return list(zip(self.items, images, strict=True))
