"""The steps of ``promote_model``: what its tasks get and hand on, in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.config import Settings
from include.lifecycle import canary_run, promotion
from include.lifecycle.canary import CanaryPolicy, Decision
from include.lifecycle.canary_run import CanaryPlan
from include.lifecycle.gate import GatePolicy


class GateClosedError(ValueError):
    """The version is worse than the policy allows; the message has the reasons."""


class CanaryFailedError(ValueError):
    """The version did worse with live requests than the policy allows; the champion stays. The message has the reasons."""


def gate(settings: Settings, params: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's report. Raises :class:`GateClosedError` where the version doesn't pass."""
    policy = GatePolicy(**{name: params[name] for name in GatePolicy.model_fields if name in params})
    report = promotion.gate(settings, params["model"], params["version"], policy)
    if not report.passed:
        raise GateClosedError(f"version {report.version} of {report.model} doesn't pass: {'; '.join(report.reasons)}")
    grids = promotion.side_by_side(settings, report.model, report.version, report.champion)
    return {**report.model_dump(mode="json"), "markdown": f"{report.markdown()}\n\n{grids}"}


def challenge(
    settings: Settings,
    report: Mapping[str, Any],
    params: Mapping[str, Any],
    answer: Mapping[str, Any] | None,
    started_by: str | None,
    run: str,
) -> dict[str, Any]:
    """Begins the canary of the report's version, as its plan; empty where there is to be none. A repetition finds the canary it began.

    :param run: names the run of the DAG
    """
    plan = canary_run.begin_canary(
        settings,
        report["model"],
        report["version"],
        canary_policy(params),
        run=run,
        by=_who(answer, started_by),
        why=_why(report, params),
    )
    if isinstance(plan, str):
        print(f"no canary: {plan}")
        return {}
    return plan.model_dump(mode="json")


def try_out(settings: Settings, plan: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Waits for the verdict on the canary; why the version may be promoted. Raises :class:`CanaryFailedError` where it may not, with the
    canary ended."""
    if not plan:
        return "no canary"
    found = CanaryPlan.model_validate(plan)
    verdict = canary_run.follow_canary(settings, found, canary_policy(params))
    reasons = "; ".join(verdict.reasons)
    if verdict.decision is Decision.BACK:
        canary_run.end_canary(settings, found.model, by="promote_model", why=f"its canary failed: {reasons}"[:1000])
        raise CanaryFailedError(f"version {found.version} of {found.model} goes back, {found.champion} stays champion: {reasons}")
    return reasons


def canary_policy(params: Mapping[str, Any]) -> CanaryPolicy:
    return CanaryPolicy(**{name: params[name] for name in CanaryPolicy.model_fields if name in params})


def promote(
    settings: Settings, report: Mapping[str, Any], params: Mapping[str, Any], answer: Mapping[str, Any] | None, started_by: str | None
) -> dict[str, Any]:
    """Promotes the version of the report.

    :param answer: the approval's, None where the run was started approved; then whoever started the run gave it
    """
    by, why = _who(answer, started_by), _why(report, params)
    move = promotion.promote(settings, report["model"], report["version"], by=by, why=why)
    return move.model_dump(mode="json")


def _who(answer: Mapping[str, Any] | None, started_by: str | None) -> str:
    """Who approved it; None as the answer means that whoever started the run did."""
    approver = (answer or {}).get("responded_by_user") or {}
    return str(approver.get("name") or started_by or "airflow")


def _why(report: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    return str(params["why"] or "; ".join(finding["reason"] for finding in report["findings"]))[:1000]
