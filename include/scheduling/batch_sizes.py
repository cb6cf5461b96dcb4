"""How many requests of one shape are worth rendering together, learned from what completions cost."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise

from include.scheduling.records import Shape

#: A model version, what its requests share, and the pool.
BatchKind = tuple[str, Shape, str]

WORTH_IT = 0.97  #: a batch twice as large must cost each request no more than this share of what it cost before
SMOOTHING = 0.2  #: weight of a new measurement
RETRY_AFTER = 200  #: measurements after which a size that was not worth it is tried again
MAX_KINDS = 1024


class _Costs:
    """Device seconds of each request by size of its batch, in powers of two."""

    __slots__ = ("by_size", "seen")

    def __init__(self, by_size: dict[int, float] | None = None, seen: int = 0) -> None:
        self.by_size = by_size or {}
        self.seen = seen

    def observe(self, size: int, each_s: float) -> None:
        self.seen += 1
        known = self.by_size.get(size)
        self.by_size[size] = each_s if known is None else known + SMOOTHING * (each_s - known)
        if self.seen >= RETRY_AFTER:
            self.seen = 0
            self.by_size = {known: cost for known, cost in self.by_size.items() if known <= size}

    def worth(self) -> int | None:
        """The largest size that is known to be worth it, None while no known size says stop."""
        sizes = sorted(self.by_size)
        for smaller, larger in pairwise(sizes):
            if self.by_size[larger] > WORTH_IT * self.by_size[smaller]:
                return smaller
        return None


class BatchSizes:
    """Doubles a batch as long as that makes each of its requests cheaper.

    On small images a device is not busy with one, so batches gain; on large ones they only make everyone wait for the slowest. Which is
    which depends on model, shape and device, so it is measured: completions report their share of the micro-batch's device time.
    A size that did not pay is left, and tried again after a while.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[BatchKind, _Costs] = OrderedDict()
        self._dirty: set[BatchKind] = set()

    def observe(self, kind: BatchKind, size: int, each_s: float) -> None:
        """``each_s``: what one request of a micro-batch of ``size`` cost."""
        if not 0 < each_s < float("inf"):
            return
        costs = self._kinds.get(kind)
        if costs is None:
            costs = self._kinds[kind] = _Costs()
            if len(self._kinds) > MAX_KINDS:
                self._kinds.popitem(last=False)
        costs.observe(_power_of_two(size), each_s)
        self._dirty.add(kind)

    def cap(self, kind: BatchKind, at_most: int) -> int:
        costs = self._kinds.get(kind)
        worth = None if costs is None else costs.worth()
        return at_most if worth is None else min(at_most, worth)

    def changed(self) -> Iterable[tuple[str, str]]:
        """Key and value of each kind that changed since this was last asked, as :meth:`restore` reads them."""
        kinds = [kind for kind in self._dirty if kind in self._kinds]
        self._dirty.clear()
        return [(json.dumps(kind), json.dumps([self._kinds[kind].seen, list(self._kinds[kind].by_size.items())])) for kind in kinds]

    def restore(self, key: str, value: str) -> None:
        """Shapes of the release before had no variant."""
        model, (name, width, height, steps, guided, *variant), pool = json.loads(key)
        seen, by_size = json.loads(value)
        self._kinds[model, (name, width, height, steps, guided, variant[0] if variant else ""), pool] = _Costs(dict(by_size), seen)


def _power_of_two(size: int) -> int:
    """The largest that is not above ``size``."""
    return 1 << (size.bit_length() - 1)
