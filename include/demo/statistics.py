"""The figures of a demo: waits by lane, states, outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from include.contracts.events import Lane
from include.demo.judging import Verdict


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of the values don't exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def lane_figures(verdicts: Iterable[Verdict]) -> dict[str, dict[str, Any]]:
    """Count and waits in seconds of the completed requests, by lane."""
    waits: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    for verdict in verdicts:
        if verdict.planned.good and verdict.event is not None and verdict.event.lane is not None and verdict.event.waited_s is not None:
            waits[verdict.event.lane].append(verdict.event.waited_s)
    return {
        lane: {"count": len(found), "wait_p50_s": percentile(found, 0.5), "wait_p99_s": percentile(found, 0.99), "waits_s": sorted(found)}
        for lane, found in waits.items()
    }


def outcome_counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    return dict(Counter(str(verdict.outcome) for verdict in verdicts))
