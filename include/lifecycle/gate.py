"""The gate before a promotion: the candidate's measurements against the champion's, by a policy, with a reason for each verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]

#: The measurements that every candidate must have, as :mod:`include.evaluation.evaluate` names them; less is better in each.
QUALITY, HELD_OUT_LOSS, SPEED, SIZE = "kernel_distance", "held_out_loss", "seconds_per_image", "size_mb"
QUALITY_ERROR = "kernel_distance_error"  #: standard error of the quality, where it was measured


class GatePolicy(BaseModel):
    """How much worse than the champion a candidate may be, in percent of the champion's measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality_worse_pct: Percent = Field(10.0, description="Growth allowed to the kernel distance and to the held-out loss.")
    slower_pct: Percent = Field(100.0, description="Growth allowed to the seconds per image.")
    bigger_pct: Percent = Field(10.0, description="Growth allowed to the size of the version's files.")

    @property
    def allowed(self) -> dict[str, float]:
        """Metric → percent by which it may grow."""
        quality = {QUALITY: self.quality_worse_pct, HELD_OUT_LOSS: self.quality_worse_pct}
        return {**quality, SPEED: self.slower_pct, SIZE: self.bigger_pct}


class Finding(BaseModel):
    """The verdict on one metric."""

    model_config = ConfigDict(frozen=True)

    metric: str
    candidate: float
    champion: float | None  #: None where there is no champion or it was never measured
    change_pct: float | None  #: positive is worse
    allowed_pct: float
    passed: bool
    reason: str


class GateReport(BaseModel):
    """All verdicts; the candidate passes if each of them is good."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    champion: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()  #: what a person should know when reading the numbers

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    @property
    def reasons(self) -> list[str]:
        """Why it doesn't pass, or what was found where it does."""
        return [finding.reason for finding in self.findings if not finding.passed] or [finding.reason for finding in self.findings]

    def markdown(self) -> str:
        """A table for the approval form."""
        rows = [
            f"| {'✔' if found.passed else '✘'} | {found.metric} | {_number(found.candidate)} | {_number(found.champion)} "
            f"| {_change(found.change_pct)} | +{found.allowed_pct:g} % |"
            for found in self.findings
        ]
        against = f"version {self.champion}" if self.champion else "none yet"
        head = f"| | metric (less is better) | version {self.version} | champion ({against}) | change | allowed |"
        return "\n".join([head, "|---|---|---|---|---|---|", *rows, *(f"\n{note}" for note in self.notes)])


class MissingEvaluationError(ValueError):
    """The candidate was never evaluated, so there is nothing to judge it by."""


def judge(
    model: str,
    version: str,
    candidate: Mapping[str, float],
    policy: GatePolicy,
    *,
    champion: str | None = None,
    champion_metrics: Mapping[str, float] | None = None,
    notes: tuple[str, ...] = (),
) -> GateReport:
    """Compares metric by metric; a quality within two standard errors of the champion's counts as equal.

    Raises :class:`MissingEvaluationError` naming the measurements that the candidate lacks."""
    missing = sorted(set(policy.allowed) - set(candidate))
    if missing:
        raise MissingEvaluationError(
            f"version {version} of {model} lacks {', '.join(missing)}; run evaluate_model with version {version} first"
        )
    old = champion_metrics or {}
    noise = {QUALITY: 2 * math.hypot(candidate.get(QUALITY_ERROR, 0.0), old.get(QUALITY_ERROR, 0.0))}
    findings = tuple(
        _judge(name, candidate[name], old.get(name), allowed, noise.get(name, 0.0)) for name, allowed in policy.allowed.items()
    )
    return GateReport(model=model, version=version, champion=champion, findings=findings, notes=notes)


def _judge(metric: str, new: float, old: float | None, allowed_pct: float, noise: float) -> Finding:
    """``noise`` is the difference, in the metric's unit, below which two measurements can't be told apart."""
    change = None if old is None else _change_pct(new, old, noise)
    passed = math.isfinite(new) and (change is None or change <= allowed_pct)
    return Finding(
        metric=metric,
        candidate=new,
        champion=old,
        change_pct=change,
        allowed_pct=allowed_pct,
        passed=passed,
        reason=_reason(metric, new, old, change, allowed_pct),
    )


def _change_pct(new: float, old: float, noise: float) -> float:
    """Signed so that more is worse for a negative measurement too: an unbiased distance may fall below zero."""
    if abs(new - old) <= noise:
        return 0.0
    if old == 0:
        return math.copysign(math.inf, new)
    return 100.0 * (new - old) / abs(old)


def _reason(metric: str, new: float, old: float | None, change: float | None, allowed_pct: float) -> str:
    if not math.isfinite(new):
        return f"{metric} is {new}: the version doesn't work"
    if old is None or change is None:
        return f"{metric} {new:.4g}: no champion to compare with"
    verdict = "within" if change <= allowed_pct else "more than"
    return f"{metric} {new:.4g} against {old:.4g} is {change:+.1f} %, {verdict} the {allowed_pct:g} % allowed"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"
