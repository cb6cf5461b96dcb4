"""The gate before a promotion: the candidate's measurements against the champion's, by a policy, with a reason for each verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]

#: The measurements that every candidate must have, as :mod:`include.evaluation.evaluate` names them; less is better in each.
QUALITY, HELD_OUT_LOSS, SPEED, SIZE = "kernel_distance", "held_out_loss", "seconds_per_image", "size_mb"
QUALITY_ERROR = "kernel_distance_error"  #: standard error of the quality, where it was measured
#: Judged where they were measured: versions of before have none of them.
AGREEMENT, MEMORISED, LEAKED, LICENCES = "prompt_agreement", "memorised_share", "leaked_samples", "licences"
#: Measured on the features of a network, so that two values can't be compared unless the network was the same.
ON_FEATURES = (QUALITY, AGREEMENT, MEMORISED)


class GatePolicy(BaseModel):
    """How much worse than the champion a candidate may be, in percent of the champion's measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality_worse_pct: Percent = Field(10.0, description="Growth allowed to the kernel distance and to the held-out loss.")
    slower_pct: Percent = Field(100.0, description="Growth allowed to the seconds per image.")
    bigger_pct: Percent = Field(10.0, description="Growth allowed to the size of the version's files.")
    agreement_worse_pct: Percent = Field(10.0, description="Fall allowed to the agreement of images with their prompts.")
    memorised_more_points: Points = Field(20.0, description="Percentage points that the memorised share may be above the champion's.")
    memorised_max_pct: Points = Field(100.0, description="Percent of the images that may be memorised in any case.")
    licenses: str = Field(
        "", max_length=2000, description="Licences allowed in the training data, by commas, * for any ending; empty: the champion's."
    )

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
    allowed: str = ""  #: what the policy allows, where that isn't growth in percent


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
            f"| {_change(found.change_pct)} | {found.allowed or f'+{found.allowed_pct:g} %'} |"
            for found in self.findings
        ]
        against = f"version {self.champion}" if self.champion else "none yet"
        head = f"| | metric | version {self.version} | champion ({against}) | change | allowed |"
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
    facts: Mapping[str, Any] | None = None,
    champion_facts: Mapping[str, Any] | None = None,
) -> GateReport:
    """Compares metric by metric; what lies within two standard errors of the champion's counts as equal.

    :param facts: what the candidate's metrics were measured on: ``features`` names the network, ``licenses`` counts training samples by
        licence, ``beside`` has the speeds of both; as ``champion_facts`` for the champion
    :raises MissingEvaluationError: names the measurements that the candidate lacks
    """
    missing = sorted(set(policy.allowed) - set(candidate))
    if missing:
        raise MissingEvaluationError(
            f"version {version} of {model} lacks {', '.join(missing)}; run evaluate_model with version {version} first"
        )
    new, old = facts or {}, champion_facts or {}
    comparable, more = _comparable(champion, champion_metrics or {}, new, old)
    candidate, rival, beside = _side_by_side(champion, candidate, comparable, new)
    more += beside
    noise = {QUALITY: _noise(candidate, rival, QUALITY_ERROR)}
    findings = [_judge(name, candidate[name], rival.get(name), allowed, noise.get(name, 0.0)) for name, allowed in policy.allowed.items()]
    findings += [*_agreement(candidate, rival, policy), *_memorised(candidate, rival, policy), *_leaks(candidate)]
    findings += _licences(new.get("licenses"), old.get("licenses"), policy)
    unmeasured = [name for name in (AGREEMENT, MEMORISED, LEAKED) if name not in candidate]
    if unmeasured:
        more += (f"Version {version} has no {', '.join(unmeasured)}; run evaluate_model with version {version} to have them judged.",)
    return GateReport(model=model, version=version, champion=champion, findings=tuple(findings), notes=(*notes, *more))


def _comparable(
    champion: str | None, metrics: Mapping[str, float], new: Mapping[str, Any], old: Mapping[str, Any]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The champion's metrics without those on other features, and a note where there are any."""
    features, before = new.get("features"), old.get("features")
    if not metrics or features == before:
        return dict(metrics), ()
    note = (
        f"Champion {champion} was measured on {before or 'unnamed features'}, this version on {features or 'unnamed features'}: "
        f"{', '.join(ON_FEATURES)} are not compared; run evaluate_model with version {champion} to compare."
    )
    return {name: value for name, value in metrics.items() if name not in ON_FEATURES}, (note,)


def _side_by_side(
    champion: str | None, candidate: Mapping[str, float], rival: Mapping[str, float], facts: Mapping[str, Any]
) -> tuple[Mapping[str, float], Mapping[str, float], tuple[str, ...]]:
    """Both with the speeds that were measured in turns, where that was done against this champion: a machine that was busier during one of
    two evaluations makes no version slower."""
    found = facts.get("beside")
    if champion is None or not found or found.get("version") != champion:
        return candidate, rival, ()
    note = f"{SPEED} of both was measured in turns, while version {champion} was the champion."
    return {**candidate, SPEED: found["own"]}, {**rival, SPEED: found["rival"]}, (note,)


def _noise(new: Mapping[str, float], old: Mapping[str, float], error: str) -> float:
    return 2 * math.hypot(new.get(error, 0.0), old.get(error, 0.0))


def _agreement(new: Mapping[str, float], old: Mapping[str, float], policy: GatePolicy) -> Iterator[Finding]:
    """More is better here, so the change is that of the negative."""
    if AGREEMENT not in new:
        return
    value, before, allowed = new[AGREEMENT], old.get(AGREEMENT), policy.agreement_worse_pct
    change = None if before is None else _change_pct(-value, -before, _noise(new, old, f"{AGREEMENT}_error"))
    passed = math.isfinite(value) and (change is None or change <= allowed)
    if not math.isfinite(value):
        reason = _reason(AGREEMENT, value, before, change, allowed)
    elif before is None or change is None:
        reason = f"{AGREEMENT} {value:.4g}: no champion to compare with"
    else:
        verdict = "within" if passed else "more than"
        reason = f"{AGREEMENT} {value:.4g} against {before:.4g} is {change:+.1f} % worse, {verdict} the {allowed:g} % allowed"
    yield _finding(AGREEMENT, value, before, change, passed, reason, f"-{allowed:g} %")


def _memorised(new: Mapping[str, float], old: Mapping[str, float], policy: GatePolicy) -> Iterator[Finding]:
    """Judged in percentage points: of nothing memorised, percent would allow nothing."""
    if MEMORISED not in new:
        return
    share, before = 100 * new[MEMORISED], 100 * old[MEMORISED] if MEMORISED in old else None
    limit = policy.memorised_max_pct
    if before is not None:
        limit = min(limit, before + policy.memorised_more_points + 100 * _noise(new, old, f"{MEMORISED}_error"))
    passed = share <= limit
    verdict = "within" if passed else "more than"
    against = "" if before is None else f" against {before:.0f} %"
    reason = f"{MEMORISED}: {share:.0f} % of the images{against} are copies of training images, {verdict} the {limit:.0f} % allowed"
    yield _finding(MEMORISED, new[MEMORISED], old.get(MEMORISED), None, passed, reason, f"{limit:.0f} %")


def _leaks(new: Mapping[str, float]) -> Iterator[Finding]:
    """Blocks: with held-out samples that were trained on, the held-out loss says nothing."""
    if LEAKED in new:
        count = new[LEAKED]
        reason = f"{LEAKED}: {count:.0f} held-out samples have a near copy among those trained on; none may"
        yield _finding(LEAKED, count, None, None, count == 0, reason, "none")


def _licences(new: Mapping[str, int] | None, old: Mapping[str, int] | None, policy: GatePolicy) -> Iterator[Finding]:
    """The licences of the training samples against the policy's, or the champion's; nothing where neither is known."""
    allowed = [part.strip() for part in policy.licenses.split(",") if part.strip()] or sorted(old or ())
    if new is None or not allowed:
        return
    others = {name: count for name, count in new.items() if not any(fnmatchcase(name.lower(), taken.lower()) for taken in allowed)}
    whose = "policy" if policy.licenses.strip() else "champion"
    listed = ", ".join(f"{name} ({count} samples)" for name, count in others.items()) or "all"
    reason = f"{LICENCES}: {listed} {'not ' if others else ''}among those of the {whose}: {', '.join(allowed)}"
    yield _finding(LICENCES, float(len(others)), None, None, not others, reason, "none other")


def _finding(metric: str, new: float, old: float | None, change: float | None, passed: bool, reason: str, allowed: str) -> Finding:
    return Finding(
        metric=metric, candidate=new, champion=old, change_pct=change, allowed_pct=0.0, passed=passed, reason=reason, allowed=allowed
    )


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
