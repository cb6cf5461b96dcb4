"""Renders of a plan's prompts, as every variant does them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.compression.plan import SweepPlan


class Renders:
    """Images of the plan's prompts, each from a seed of its own, which is the same for all variants."""

    def __init__(self, plan: SweepPlan, name: str, pipeline: Any) -> None:
        self.found = plan.measurement
        self.steps, self.guidance = plan.steps_of(name), plan.source_of(name).defaults.guidance
        self.pipeline = pipeline

    def __call__(self, items: Iterable[int]) -> np.ndarray:
        """``(N, H, W, 3)`` uint8 of the items, rendered together."""
        return np.stack([np.asarray(image.convert("RGB")) for image in self.pipeline.decode(self.finished(items))])

    def finished(self, items: Iterable[int]) -> Any:
        """The items after their last step, before they are decoded."""
        found, items = self.found, list(items)
        prompts = [found.prompts[item] for item in items]
        conditioning = self.pipeline.encode(prompts, [""] * len(items), [self.guidance] * len(items))
        state = self.pipeline.prepare(conditioning, [found.seed + item for item in items], found.width, found.height, self.steps)
        while min(state.progress) < state.steps:
            state = self.pipeline.step(state)
        return state
