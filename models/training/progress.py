"""Lines of loss, speed and remaining time."""

from __future__ import annotations

import time
from datetime import timedelta

from models.training.config import TrainingConfig
from models.training.tracking import Tracker


class Progress:
    """:param first: the step that this process starts after"""

    def __init__(self, config: TrainingConfig, tracker: Tracker, first: int) -> None:
        self._config, self._tracker, self._first = config, tracker, first
        self._started = time.monotonic()
        self._losses: list[float] = []

    def step(self, step: int, loss: float) -> None:
        """Tells of every ``log_every``-th step and of the last one: the mean loss since the line before."""
        self._losses.append(loss)
        if step % self._config.log_every and step != self._config.max_steps:
            return
        elapsed = time.monotonic() - self._started
        speed = (step - self._first) * self._config.batch_size / elapsed
        left = timedelta(seconds=round((self._config.max_steps - step) * elapsed / (step - self._first)))
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        print(f"step {step}/{self._config.max_steps} loss {mean:.4f} {speed:.1f} samples/s eta {left}", flush=True)
        self._tracker.metrics({"loss": mean, "samples_per_s": speed, "learning_rate": self._config.learning_rate_at(step - 1)}, step)
