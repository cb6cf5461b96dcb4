"""The judgement on a canary: what both versions did with live requests since it began, by a policy, with a reason for the verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: One-sided 99 %. A canary is judged again and again while it runs, so that the usual 95 % would take many a good version back.
Z = 2.326
#: With fewer measurements a 95th percentile is the largest of them or the next.
LEAST_FOR_P95 = 40
LEAST_RATINGS = 5
LEAST_FAILURES = 3  #: fewer are no proof, whatever the bounds say

Percent = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class CanaryPolicy(BaseModel):
    """How long a version is tried on live requests, and how much worse than the champion it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary_share: float = Field(0.1, ge=0, lt=1, description="Of the model's requests; 0: no canary.")
    canary_min_requests: int = Field(50, ge=1, description="Finished requests of each version before the challenger may be promoted.")
    canary_minutes: float = Field(60.0, gt=0, le=10_080, description="After so long it is decided by what is known.")
    canary_error_pct: Percent = Field(2.0, description="Percentage points by which the share of failed requests may be higher.")
    canary_slower_pct: Percent = Field(50.0, description="Growth allowed to the device seconds of an image, median and 95th percentile.")
    canary_rating_drop: float = Field(0.5, ge=0, le=4, description="By how much the mean rating may be lower.")
    canary_no_traffic: Literal["back", "promote"] = Field(
        "back", description="What becomes of it where fewer than canary_min_requests came, and nothing was found against it."
    )


@dataclass(kw_only=True)
class Arm:
    """What one version did."""

    version: str
    completed: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)  #: device seconds an image, of what was rendered and not found in a cache
    ratings: list[int] = field(default_factory=list)  #: 1 to 5

    @property
    def finished(self) -> int:
        return self.completed + self.failed

    def __str__(self) -> str:
        p50 = f", {statistics.median(self.seconds):.3g} s an image" if self.seconds else ""
        rated = f", rated {statistics.fmean(self.ratings):.1f} by {len(self.ratings)}" if self.ratings else ""
        return f"version {self.version}: {self.completed} completed, {self.failed} failed{p50}{rated}"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is known of both versions ``elapsed_s`` seconds after the beginning."""

    champion: Arm
    challenger: Arm
    elapsed_s: float
    refusals: tuple[str, ...] = ()  #: workers that tried the challenger and won't serve it


class Decision(StrEnum):
    PROMOTE = "promote"
    BACK = "back"  #: the champion stays
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    decision: Decision
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How much worse the challenger is in one respect."""

    words: str
    worse: float  #: as measured; below 0: better
    surely_worse: float  #: at least so much, with the confidence of :data:`Z`
    allowed: float


def judge(figures: Figures, policy: CanaryPolicy) -> Verdict:
    """Back at once where a worker refuses it or it is worse than allowed beyond doubt; promoted where enough requests of each version
    are finished and nothing measured is worse than allowed; decided by what is known when the time is over."""
    if figures.refusals:
        return Verdict(decision=Decision.BACK, reasons=tuple(f"worker {name} won't serve it" for name in figures.refusals))
    findings = _findings(figures, policy)
    beyond_doubt = tuple(found.words for found in findings if found.surely_worse > found.allowed)
    if beyond_doubt:
        return Verdict(decision=Decision.BACK, reasons=beyond_doubt)
    worse = tuple(found.words for found in findings if found.worse > found.allowed)
    over = figures.elapsed_s >= 60 * policy.canary_minutes
    if worse:
        return Verdict(decision=Decision.BACK if over else Decision.WAIT, reasons=worse)
    if _enough(figures, policy):
        return Verdict(decision=Decision.PROMOTE, reasons=tuple(found.words for found in findings))
    return _too_few(figures, policy, over)


def _enough(figures: Figures, policy: CanaryPolicy) -> bool:
    return min(figures.challenger.finished, figures.champion.finished) >= policy.canary_min_requests


def _too_few(figures: Figures, policy: CanaryPolicy, over: bool) -> Verdict:
    counts = f"{figures.challenger.finished} requests on the challenger and {figures.champion.finished} on the champion are finished"
    reason = f"{counts}, of {policy.canary_min_requests} wanted of each"
    if not over:
        return Verdict(decision=Decision.WAIT, reasons=(reason,))
    reason = f"{reason}, after {policy.canary_minutes:g} min; canary_no_traffic is {policy.canary_no_traffic}"
    return Verdict(decision=Decision(policy.canary_no_traffic), reasons=(reason,))


def _findings(figures: Figures, policy: CanaryPolicy) -> list[Finding]:
    new, old = figures.challenger, figures.champion
    found = [
        _errors(new, old, policy.canary_error_pct / 100),
        _slower(new, old, 0.5, 1, policy.canary_slower_pct / 100),
        _slower(new, old, 0.95, LEAST_FOR_P95, policy.canary_slower_pct / 100),
        _ratings(new, old, policy.canary_rating_drop),
    ]
    return [finding for finding in found if finding is not None]


def _errors(new: Arm, old: Arm, allowed: float) -> Finding | None:
    """By the bounds of Newcombe (1998), method 10, for the difference of two shares, of Wilson's (1927) bounds for each."""
    if not new.finished or not old.finished:
        return None
    new_share, old_share = new.failed / new.finished, old.failed / old.finished
    least, _ = wilson_bounds(new.failed, new.finished)
    _, most = wilson_bounds(old.failed, old.finished)
    difference = new_share - old_share
    surely = difference - math.hypot(new_share - least, most - old_share)
    return Finding(
        words=f"{new.failed} of {new.finished} failed ({new_share:.1%}) against {old.failed} of {old.finished} ({old_share:.1%}), "
        f"{allowed:.1%} more are allowed",
        worse=difference,
        surely_worse=surely if new.failed >= LEAST_FAILURES else -math.inf,
        allowed=allowed,
    )


def wilson_bounds(count: int, of: int, z: float = Z) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share; ``of`` at least 1."""
    share, spread = count / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _slower(new: Arm, old: Arm, q: float, at_least: int, allowed: float) -> Finding | None:
    if min(len(new.seconds), len(old.seconds)) < at_least:
        return None
    (new_s, least, _), (old_s, _, most) = quantile(new.seconds, q), quantile(old.seconds, q)
    name = "median" if q == 0.5 else f"{100 * q:g}th percentile"
    return Finding(
        words=f"{name} {new_s:.3g} s an image against {old_s:.3g} s is {_change(new_s, old_s):+.0%}, +{allowed:.0%} are allowed",
        worse=_change(new_s, old_s),
        surely_worse=_change(least, most),
        allowed=allowed,
    )


def quantile(values: Sequence[float], q: float, z: float = Z) -> tuple[float, float, float]:
    """The quantile with its lower and upper bound from order statistics, whatever the distribution (Conover 1999, section 3.2).

    Where there are too few values for a bound, it is 0 or infinite.
    """
    ordered, n = sorted(values), len(values)
    spread = z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - spread), math.ceil(n * q + spread)
    least = ordered[low] if low >= 0 else 0.0
    most = ordered[high] if high < n else math.inf
    middle = statistics.median(ordered) if q == 0.5 else ordered[min(n - 1, math.ceil(n * q) - 1)]
    return middle, least, most


def _change(new: float, old: float) -> float:
    if old == 0:
        return 0.0 if new == 0 else math.inf
    return new / old - 1


def _ratings(new: Arm, old: Arm, allowed: float) -> Finding | None:
    """By Welch's (1947) standard error of the difference of two means."""
    if min(len(new.ratings), len(old.ratings)) < LEAST_RATINGS:
        return None
    drop = statistics.fmean(old.ratings) - statistics.fmean(new.ratings)
    error = math.sqrt(sum(statistics.variance(arm.ratings) / len(arm.ratings) for arm in (new, old)))
    return Finding(
        words=f"rated {statistics.fmean(new.ratings):.2f} by {len(new.ratings)} against {statistics.fmean(old.ratings):.2f} by "
        f"{len(old.ratings)}, {allowed:g} less is allowed",
        worse=drop,
        surely_worse=drop - Z * error,
        allowed=allowed,
    )
