"""How long a denoising step takes here, learned from the steps that were run."""

from __future__ import annotations

from dataclasses import dataclass

KEPT = 0.8  #: weight of what was known against one more step


@dataclass(frozen=True)
class Work:
    model: str  #: name/version
    size: int  #: pixels of one image's step, twice as many with guidance


class StepTimes:
    """Device seconds per pixel and step, by model; a model that never ran is taken to be like the others."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def observe(self, work: Work, item_steps: int, seconds: float) -> None:
        """So many steps of one image each took so long together."""
        if item_steps <= 0:
            return
        rate = seconds / (item_steps * work.size)
        known = self._rates.get(work.model)
        self._rates[work.model] = rate if known is None else KEPT * known + (1 - KEPT) * rate

    def estimate(self, work: Work, item_steps: int) -> float:
        """Device seconds; before anything was seen, in a unit of its own, good for comparing one with another."""
        rate = self._rates.get(work.model)
        if rate is None:
            rate = sum(self._rates.values()) / len(self._rates) if self._rates else 1.0
        return item_steps * work.size * rate
