"""A render as a resumable object: its owner advances it step by step, and may drop, add and split items between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL.Image import Image

from include.contracts.dispatch import RenderTask
from include.worker.pipeline import Pipeline, RenderState
from include.worker.ports import always
from models.pipelines.interruption import interruptible

MAX_SEED = 2**63


@dataclass(eq=False)
class Item:
    """One image to render, and what it has cost so far."""

    task: RenderTask
    index: int  #: position among its request's images
    lease_id: str = ""
    device_s: float = 0.0  #: its share of the device seconds of each call that it was part of
    ran: int = 0  #: denoising steps run

    @property
    def seed(self) -> int:
        return (self.task.seed + self.index) % MAX_SEED


def items_of(tasks: Sequence[RenderTask], lease_id: str = "") -> list[Item]:
    return [Item(task, index, lease_id) for task in tasks for index in range(task.images)]


class Beginner:
    """Encodes prompts and draws noise, with the pipeline alone."""

    def begin(self, pipeline: Pipeline, items: Sequence[Item]) -> RenderState:
        """The items before their first step. Raises :class:`ValueError` for what can't be rendered."""
        tasks = [item.task for item in items]
        conditioning = pipeline.encode(
            [task.prompt for task in tasks], [task.negative_prompt for task in tasks], [task.guidance for task in tasks]
        )
        first = tasks[0]
        return pipeline.prepare(conditioning, [item.seed for item in items], width=first.width, height=first.height, steps=first.steps)


class Render:
    """Items of one batch key on their way from prompt to image.

    :param state: what they are at; None: not begun
    :param alone: it may be joined with nothing
    :param device: whose work is waited for, so that each call is charged with its own
    """

    def __init__(
        self,
        pipeline: Pipeline,
        items: Sequence[Item],
        beginner: Beginner | None = None,
        *,
        state: RenderState | None = None,
        alone: bool = False,
        device: str = "cpu",
    ) -> None:
        self.pipeline = pipeline
        self.items = list(items)
        self.beginner = beginner or Beginner()
        self.state = state
        self.alone = alone
        self.device = device
        self.steps = items[0].task.steps

    @property
    def progress(self) -> tuple[int, ...]:
        """Steps done, by item; for one that starts from an image, those it leaves out count as done."""
        return self.state.progress if self.state is not None else tuple(item.task.steps - item.task.steps_run for item in self.items)

    @property
    def finished(self) -> list[int]:
        """Positions of the items whose every step is done."""
        return [position for position, done in enumerate(self.progress) if done >= self.steps]

    @property
    def left(self) -> int:
        """Denoising steps still to do, each item counted."""
        return sum(self.steps - done for done in self.progress)

    def begin(self) -> None:
        """Encode the prompts and draw the noise."""
        with self._charged():
            self.state = self.beginner.begin(self.pipeline, self.items)

    def advance(self, wanted: Callable[[], bool] = always) -> None:
        """One denoising step of all items that are not finished; the first call begins the render. Where it raises, all is as before.

        :param wanted: asked within the step, where the pipeline can be left there
        :raises InterruptedStepError: ``wanted`` said no
        """
        if self.state is None:
            self.begin()
        going = [item for item, done in zip(self.items, self.progress, strict=True) if done < self.steps]
        with self._charged(going), interruptible(wanted):
            self.state = self.pipeline.step(self.state)
        for item in going:
            item.ran += 1

    def drop(self, gone: Callable[[Item], bool]) -> None:
        """Go on without the items of which that is true."""
        kept = [position for position, item in enumerate(self.items) if not gone(item)]
        if len(kept) < len(self.items):
            self._keep(kept)

    def part(self, positions: Sequence[int], *, alone: bool = False) -> Render:
        """A render of some of the items, from where they are."""
        state = self.state.select(positions) if self.state is not None else None
        items = [self.items[position] for position in positions]
        return Render(self.pipeline, items, self.beginner, state=state, alone=alone, device=self.device)

    def join(self, other: Render) -> None:
        """Take over the items of another, which begins first if it has not. Where it raises, this one is as before."""
        for render in (self, other):
            if render.state is None:
                render.begin()
        assert self.state is not None and other.state is not None
        self.state = self.state.join(other.state)
        self.items += other.items

    def take_images(self) -> list[tuple[Item, Image]]:
        """The finished images; their items leave the render. Where it raises, they stay."""
        positions = self.finished
        if not positions or self.state is None:
            return []
        done = [self.items[position] for position in positions]
        with self._charged(done):
            everyone = len(done) == len(self.items)
            images = self.pipeline.decode(self.state if everyone else self.state.select(positions))
        self._keep([position for position in range(len(self.items)) if position not in set(positions)])
        return list(zip(done, images, strict=True))

    def previews(self, positions: Sequence[int]) -> list[Image]:
        """How these items look to become."""
        if self.state is None:
            return []
        with self._charged([self.items[position] for position in positions]):
            return self.pipeline.preview(self.state.select(positions))

    def _keep(self, positions: Sequence[int]) -> None:
        self.items = [self.items[position] for position in positions]
        if self.state is not None and positions:
            self.state = self.state.select(positions)
        if not positions:
            self.state = None

    @contextmanager
    def _charged(self, items: Sequence[Item] | None = None) -> Iterator[None]:
        """The seconds that the block takes, shared evenly by the items."""
        began = time.perf_counter()
        try:
            yield
            _wait_for(self.device)
        finally:
            payers = self.items if items is None else items
            share = (time.perf_counter() - began) / len(payers)
            for item in payers:
                item.device_s += share


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        import torch  # loaded already where a CUDA device is used

        torch.cuda.synchronize(device)
