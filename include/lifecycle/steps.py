"""The steps of ``promote_model``: what its tasks get and hand on, in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.config import Settings
from include.lifecycle import promotion
from include.lifecycle.gate import GatePolicy


class GateClosedError(ValueError):
    """The version is worse than the policy allows; the message has the reasons."""


def gate(settings: Settings, params: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's report. Raises :class:`GateClosedError` where the version doesn't pass."""
    policy = GatePolicy(**{name: params[name] for name in GatePolicy.model_fields})
    report = promotion.gate(settings, params["model"], params["version"], policy)
    if not report.passed:
        raise GateClosedError(f"version {report.version} of {report.model} doesn't pass: {'; '.join(report.reasons)}")
    return {**report.model_dump(mode="json"), "markdown": report.markdown()}


def promote(
    settings: Settings, report: Mapping[str, Any], params: Mapping[str, Any], answer: Mapping[str, Any] | None, started_by: str | None
) -> dict[str, Any]:
    """Promotes the version of the report.

    :param answer: the approval's, None where the run was started approved; then whoever started the run gave it
    """
    who = (answer or {}).get("responded_by_user") or {}
    why = params["why"] or "; ".join(finding["reason"] for finding in report["findings"])
    move = promotion.promote(settings, report["model"], report["version"], by=who.get("name") or started_by or "airflow", why=why[:1000])
    return move.model_dump(mode="json")
