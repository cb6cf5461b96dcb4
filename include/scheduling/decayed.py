"""A quantile of what was seen lately."""

from __future__ import annotations

import math

#: Neighbouring buckets differ by this factor, so a quantile is off by at most half of it.
_GROWTH = math.log(1.1)
_SMALLEST = 0.001
#: Beyond this many time constants the weights are scaled anew, long before they overflow.
_RESCALE = 16.0
_NEGLIGIBLE = 1e-6


class DecayedQuantile:
    """A histogram of positive values in exponentially decaying weights; 5 % exact, O(1) to add, bounded.

    Weights grow with time rather than being decayed one by one (forward decay: Cormode, Shkapenyuk, Srivastava and Xu,
    "Forward decay: a practical time decay model for streaming systems", ICDE 2009).

    :param tau_s: seconds in which a value's weight falls to 1/e
    """

    def __init__(self, tau_s: float) -> None:
        self.tau_s = tau_s
        self._origin = 0.0
        self._weights: dict[int, float] = {}

    def add(self, value: float, now: float) -> None:
        if (now - self._origin) / self.tau_s > _RESCALE:
            self._rescale(now)
        bucket = max(0, math.ceil(math.log(max(value, _SMALLEST) / _SMALLEST) / _GROWTH))
        self._weights[bucket] = self._weights.get(bucket, 0.0) + math.exp((now - self._origin) / self.tau_s)

    def quantile(self, share: float, now: float, *, least_weight: float = 0.1) -> float | None:
        """None where too little was seen lately; a value just added weighs 1."""
        self._rescale(now)
        total = sum(self._weights.values())
        if total < least_weight:
            return None
        below = 0.0
        for bucket in sorted(self._weights):
            below += self._weights[bucket]
            if below >= share * total:
                break
        return 0.0 if bucket == 0 else _SMALLEST * math.exp(_GROWTH * (bucket - 0.5))

    def encode(self) -> list[float | list[float]]:
        """For JSON."""
        return [self._origin, *([bucket, weight] for bucket, weight in sorted(self._weights.items()))]

    def restore(self, content: list[float | list[float]]) -> None:
        origin, *weights = content
        self._origin = float(origin)  # type: ignore[arg-type]
        self._weights = {int(bucket): float(weight) for bucket, weight in weights}  # type: ignore[union-attr, misc]

    def _rescale(self, now: float) -> None:
        factor = math.exp(min(0.0, (self._origin - now) / self.tau_s))
        self._weights = {bucket: left for bucket, weight in self._weights.items() if (left := weight * factor) > _NEGLIGIBLE}
        self._origin = max(self._origin, now)
