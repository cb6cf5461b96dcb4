"""How long a queued request will wait, with a band that says how good the guess is."""

from __future__ import annotations

import json
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from include.contracts.events import Estimate, Lane

COVERAGE = 0.8  #: share of requests that are to start within their band
#: Told where a lane has no measured rate. Such an estimate has the widest band and nothing is learned from how it ends.
UNKNOWN_WAIT_S = 3600.0
LONGEST_S = 1e9  #: as far as a message can say

_SCALE_S = 1.0  #: waits below this differ little: ratios are taken between ``seconds + _SCALE_S``
_PRIOR_FACTOR = 4.0  #: of the band on either side, before enough was seen
_ENOUGH, _WINDOW, _RECENT = 20, 120, 500
_GAMMA, _MISSES = 0.01, (0.02, 0.6)  #: step and limits of the aimed-at share of misses


class Told(NamedTuple):
    """An estimate as it was told, and what it was corrected from. Seconds."""

    wait_s: float
    low_s: float
    high_s: float
    plain_s: float

    def message(self) -> Estimate:
        return Estimate.trusted(wait_s=self.wait_s, low_s=self.low_s, high_s=self.high_s)


class _Errors:
    """The last ratios of actual to plainly estimated wait, as logarithms, in order of arrival and of size."""

    def __init__(self, ratios: Iterable[float] = (), misses: float = 1 - COVERAGE) -> None:
        self.misses = misses
        self._arrived: deque[float] = deque()
        self._sorted: list[float] = []
        for ratio in ratios:
            self.add(ratio)

    def add(self, ratio: float) -> None:
        self._arrived.append(ratio)
        insort(self._sorted, ratio)
        if len(self._arrived) > _WINDOW:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]

    def missed(self, missed: bool) -> None:
        low, high = _MISSES
        self.misses = min(high, max(low, self.misses + _GAMMA * (1 - COVERAGE - missed)))

    def band(self) -> tuple[float, float, float]:
        """Low, middle, high."""
        count = len(self._sorted)
        if count < _ENOUGH:
            return -math.log(_PRIOR_FACTOR), 0.0, math.log(_PRIOR_FACTOR)
        low = math.floor((count + 1) * self.misses / 2)
        high = math.ceil((count + 1) * (1 - self.misses / 2))
        return self._sorted[max(low, 1) - 1], self._sorted[count // 2], self._sorted[min(high, count) - 1]

    def encode(self) -> list[float]:
        return [self.misses, *self._arrived]


class WaitEstimator:
    """Plain estimate: what goes before over the rate at which it goes. Its band and its correction come from how it did lately.

    For each lane and each decade of the plain estimate, a bounded window holds the ratios of actual to estimated wait. Their
    quantiles scale the estimate: the median is told as the wait, and the band is the split conformal interval (Papadopoulos et al.,
    "Inductive confidence machines for regression", ECML 2002). Waits in a queue are not exchangeable, so the aimed-at share of misses
    moves with the misses that occur, which keeps the coverage in the long run whatever the process does (Gibbs and Candès, "Adaptive
    conformal inference under distribution shift", NeurIPS 2021). Before 20 requests were seen the band is a factor of four either way.

    Each call is O(1): windows are of fixed length.
    """

    def __init__(self) -> None:
        self._errors: dict[tuple[Lane, int], _Errors] = {}
        self._hits: deque[bool] = deque(maxlen=_RECENT)

    def estimate(self, ahead_s: float, drain_rate: float, lane: Lane) -> Told:
        """The wait of a request that joins now.

        :param ahead_s: device seconds that will be served before it
        :param drain_rate: device seconds a second that the lane gets; 0 where none was measured, which makes it :data:`UNKNOWN_WAIT_S`
        """
        if drain_rate <= 0 and ahead_s > 0:
            return Told(UNKNOWN_WAIT_S, 0.0, LONGEST_S, UNKNOWN_WAIT_S)
        plain_s = min(LONGEST_S, ahead_s / drain_rate) if ahead_s > 0 else 0.0
        low, middle, high = self._errors_of(lane, plain_s).band()
        return Told(_scaled(plain_s, middle), _scaled(plain_s, low), _scaled(plain_s, high), plain_s)

    def settle(self, lane: Lane, told: Told, waited_s: float) -> None:
        """It was dispatched after so long."""
        if told.high_s >= LONGEST_S:
            return
        hit = told.low_s <= waited_s <= told.high_s
        errors = self._errors_of(lane, told.plain_s)
        errors.missed(not hit)
        errors.add(math.log((waited_s + _SCALE_S) / (told.plain_s + _SCALE_S)))
        self._hits.append(hit)

    @property
    def coverage(self) -> float | None:
        """Share of the last 500 estimates that were dispatched within their band, None before the first."""
        return sum(self._hits) / len(self._hits) if self._hits else None

    @property
    def calibration_error(self) -> float:
        """How far :attr:`coverage` is from :data:`COVERAGE`; 0 before the first dispatch."""
        return 0.0 if self.coverage is None else abs(self.coverage - COVERAGE)

    def encode(self) -> str:
        errors = {f"{lane} {decade}": [round(value, 4) for value in errors.encode()] for (lane, decade), errors in self._errors.items()}
        return json.dumps({"errors": errors, "hits": "".join("1" if hit else "0" for hit in self._hits)})

    def restore(self, text: str) -> None:
        """Raises :class:`ValueError` or :class:`KeyError` for what :meth:`encode` did not write."""
        content = json.loads(text)
        self._hits = deque((digit == "1" for digit in content["hits"]), maxlen=_RECENT)
        self._errors = {}
        for name, (misses, *ratios) in content["errors"].items():
            lane, decade = name.split(" ")
            self._errors[Lane(lane), int(decade)] = _Errors(ratios, misses)

    def _errors_of(self, lane: Lane, plain_s: float) -> _Errors:
        key = (lane, int(math.log10(plain_s + _SCALE_S)))
        errors = self._errors.get(key)
        if errors is None:
            errors = self._errors[key] = _Errors()
        return errors


def _scaled(plain_s: float, ratio: float) -> float:
    return min(LONGEST_S / 2, max(0.0, (plain_s + _SCALE_S) * math.exp(ratio) - _SCALE_S))


@dataclass(slots=True)
class _Flow:
    """Decayed device seconds of a lane, and the decayed time in which they were dispatched."""

    served_s: float = 0.0
    time_s: float = 0.0
    at: float = 0.0
    waits: bool = True
    since: float | None = None  #: first dispatch since it began to wait; time counts from there


class DrainRate:
    """Device seconds a second that a lane gets while it waits, in exponentially decaying weights.

    A lane that is empty now and then shows no more than what was asked of it, so tell :meth:`waiting` when it begins and ends to wait:
    only what is dispatched in between counts, from the first dispatch on, which itself ends a time that nobody measured. While it
    does not wait the rate stays as it was. Without that all time counts.

    :param tau_s: seconds in which a dispatch's weight falls to 1/e
    """

    _PRIOR_S = 10.0  #: seconds of measurement that a prior is worth
    _SHORTEST_S = 5.0  #: seconds over which a first dispatch is spread at least

    def __init__(self, tau_s: float = 60.0) -> None:
        self.tau_s = tau_s
        self._flows = {lane: _Flow() for lane in Lane}

    def waiting(self, lane: Lane, waits: bool, now: float) -> None:
        """Whether requests of the lane wait from now on. Telling it again is fine."""
        flow = self._flows[lane]
        if flow.waits != waits:
            self._advance(flow, now)
            flow.waits, flow.since = waits, None

    def served(self, lane: Lane, seconds: float, now: float) -> None:
        """So many device seconds of the lane were dispatched."""
        flow = self._flows[lane]
        self._advance(flow, now)
        if not flow.waits:
            return
        if flow.since is None:
            flow.since = now
        elif now > flow.since:
            flow.served_s += seconds

    def rate(self, lane: Lane, now: float, prior: float = 0.0) -> float:
        """0 where nothing was measured and no ``prior`` is given, which counts as ten seconds of measurement."""
        flow = self._flows[lane]
        self._advance(flow, now)
        if prior > 0:
            return (flow.served_s + prior * self._PRIOR_S) / (flow.time_s + self._PRIOR_S)
        return flow.served_s / max(flow.time_s, self._SHORTEST_S)

    def _advance(self, flow: _Flow, now: float) -> None:
        elapsed = max(0.0, now - flow.at)
        if flow.since is not None:
            kept = math.exp(-elapsed / self.tau_s)
            flow.served_s *= kept
            flow.time_s = flow.time_s * kept + self.tau_s * (1 - kept)
        flow.at = max(now, flow.at)
