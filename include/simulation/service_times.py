"""How long a render takes: a table by model and pool, interpolated between image sizes, with seeded noise."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from zlib import crc32

_NOISES = 1 << 14


@dataclass(frozen=True, kw_only=True)
class RenderTimes:
    """One model on one pool. Between two sizes all figures are interpolated over the logarithm of the pixels."""

    setup_s: float  #: a micro-batch: text encoding, dispatch to the device
    finish_s: Mapping[int, float]  #: pixels → seconds to decode and store one image
    step_s: Mapping[int, float]  #: pixels → seconds of one step of one image without guidance
    gain: Mapping[int, Mapping[int, float]]  #: pixels → images in the batch → throughput against one image at a time

    def seconds(self, pixels: int, steps: int, guided: bool, images: int) -> float:
        branches = 2 if guided else 1
        denoising = steps * branches * _between(self.step_s, pixels) * images / self._gain(pixels, images)
        return self.setup_s + denoising + images * _between(self.finish_s, pixels)

    def _gain(self, pixels: int, images: int) -> float:
        return _between({size: _between(gains, images) for size, gains in self.gain.items()}, pixels)


def _between(table: Mapping[int, float], at: int) -> float:
    """Linear in log(at) between the two nearest rows; the outermost rows hold beyond the table."""
    rows = sorted(table)
    right = bisect_left(rows, at)
    if right == 0 or right == len(rows):
        return table[rows[min(right, len(rows) - 1)]]
    low, high = rows[right - 1], rows[right]
    share = (log(at) - log(low)) / (log(high) - log(low))
    return table[low] + share * (table[high] - table[low])


@dataclass(kw_only=True)
class ServiceTimes:
    """Device seconds of a micro-batch by (model, pixels, steps, guided, images, pool), times lognormal noise of mean 1.

    The noise depends on the seed and on ``name``, which is the first request of the micro-batch, and not on how many were drawn before:
    so two policies that make the same decision see the same service time.
    """

    tables: Mapping[tuple[str, str], RenderTimes]  #: (model, pool)
    sigma: float = 0.1  #: of the logarithm; 0 for none
    seed: int = 0
    _known: dict[tuple[str, int, int, bool, int, str], float] = field(default_factory=dict, init=False, repr=False)
    _noise: list[float] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        draw = random.Random(f"service times {self.seed}")
        self._noise = [draw.lognormvariate(-(self.sigma**2) / 2, self.sigma) for _ in range(_NOISES)]

    def expected(self, model: str, pixels: int, steps: int, guided: bool, images: int, pool: str) -> float:
        """Without noise. Raises :class:`KeyError` for a model that the pool has no row for."""
        key = (model, pixels, steps, guided, images, pool)
        if key not in self._known:
            self._known[key] = self.tables[model, pool].seconds(pixels, steps, guided, images)
        return self._known[key]

    def actual(self, name: str, model: str, pixels: int, steps: int, guided: bool, images: int, pool: str) -> float:
        noise = self._noise[crc32(name.encode(), self.seed) % _NOISES]
        return self.expected(model, pixels, steps, guided, images, pool) * noise
