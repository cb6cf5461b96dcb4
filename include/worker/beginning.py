"""From the requests of a lease to the noise, or the images, that their renders begin with."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from include.contracts.dispatch import RenderTask
from include.storage import ObjectStore
from include.worker.assignment import Assignment
from include.worker.pipeline import Pipeline, RenderState, Start
from include.worker.ports import PromptEncoder
from include.worker.render import Beginner, Item
from include.worker.start_images import load_start_image


class LeaseBeginner(Beginner):
    """Begins renders of one lease's items, which share everything but prompt, seed and the image they start from."""

    def __init__(self, assignment: Assignment, prompts: PromptEncoder) -> None:
        self.assignment = assignment
        self.prompts = prompts
        self._starts: dict[str, Image] = {}

    def load_start(self, store: ObjectStore, task: RenderTask) -> None:
        """Fetch the image that the request starts from, if there is one. Raises :class:`StartImageError` for a bad one."""
        if task.init_image is not None:
            self._starts[task.request_id] = load_start_image(store, task)

    def begin(self, pipeline: Pipeline, items: Sequence[Item]) -> RenderState:
        tasks = [item.task for item in items]
        encoded = self.prompts.encode(
            pipeline,
            self.assignment.lease.model,
            [task.prompt for task in tasks],
            [task.negative_prompt for task in tasks],
            [task.guidance for task in tasks],
        )
        for task, hit in zip(tasks, encoded.hits, strict=True):
            if hit:
                self.assignment.work[task.request_id].hits["prompt"] = None
        first, seeds = tasks[0], [item.seed for item in items]
        return pipeline.prepare(encoded.conditioning, seeds, first.width, first.height, first.steps, self._start(tasks))

    def _start(self, tasks: Sequence[RenderTask]) -> Start | None:
        strength = tasks[0].strength
        if strength is None or not self._starts:
            return None
        return Start([self._starts[task.request_id] for task in tasks], strength)
