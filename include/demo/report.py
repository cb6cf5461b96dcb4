"""``report.json``: the figures of a demo for machines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from include.demo.airflow_runs import FinishedRun
from include.demo.burst_figures import burst_figures
from include.demo.judging import Verdict
from include.demo.lifecycle import Promotion
from include.demo.outcome import Outcome
from include.demo.pictures import image_name
from include.demo.rollback import Rollback
from include.demo.statistics import lane_figures, outcome_counts, percentile
from include.demo.worker_figures import worker_figures


def build_report(outcome: Outcome) -> dict[str, Any]:
    traffic = outcome.traffic
    verdicts = traffic.verdicts if traffic else []
    return {
        "run": outcome.options.run,
        "ok": outcome.ok,
        "faults": outcome.faults,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(outcome.started_at)),
        "seconds": round(outcome.steps.total_s, 1),
        "steps": [{"name": step.name, "seconds": round(step.seconds, 2), "ok": step.ok, "note": step.note} for step in outcome.steps.done],
        "dataset": outcome.dataset_facts(),
        "compression": compression_entry(outcome.sweep) if outcome.sweep else None,
        "promotions": [promotion_entry(promotion) for promotion in outcome.promotions],
        "versions": [
            {"version": found.version, "metrics": found.metrics, "train_s": round(found.training.seconds, 1)} for found in outcome.versions
        ],
        "requests": {
            "total": len(verdicts),
            "good": sum(verdict.planned.good for verdict in verdicts),
            "bad": sum(not verdict.planned.good for verdict in verdicts),
            "as_expected": sum(verdict.ok for verdict in verdicts),
            "seconds": round(traffic.seconds, 2) if traffic else None,
        },
        "states": outcome_counts(verdicts),
        "lanes": lane_figures(verdicts),
        "good": [good_entry(verdict) for verdict in verdicts if verdict.planned.good],
        "bad": [bad_entry(verdict) for verdict in verdicts if not verdict.planned.good],
        "rollback": rollback_entry(outcome.rollback) if outcome.rollback else None,
        "burst": burst_figures(outcome.burst, outcome.high) if outcome.burst and outcome.high else None,
        "workers": worker_figures(outcome.workers) if outcome.workers else None,
        "addresses": outcome.addresses,
    }


def good_entry(verdict: Verdict) -> dict[str, Any]:
    planned, event = verdict.planned, verdict.event
    entry = {
        "request_id": planned.request_id,
        "prompt": planned.prompt,
        "tenant": planned.tenant,
        "tier": planned.tier,
        "way": planned.way,
        "service_class": planned.service_class,
        "ok": verdict.ok,
        "state": str(verdict.outcome),
        "detail": verdict.detail,
    }
    if event is None:
        return entry
    return {
        **entry,
        "lane": event.lane,
        "wait_s": event.waited_s,
        "render_s": event.usage.render_s if event.usage else None,
        "model": event.model,
        "model_version": event.model_version,
        "worker": event.worker_id,
        "images": [f"images/{image_name(image)}" for image in event.images],
    }


def bad_entry(verdict: Verdict) -> dict[str, Any]:
    planned = verdict.planned
    return {
        "what": planned.label,
        "way": planned.way,
        "service_class": planned.service_class,
        "expected": planned.expected,
        "outcome": str(verdict.outcome),
        "detail": verdict.detail,
        "ok": verdict.ok,
    }


def compression_entry(sweep: FinishedRun) -> dict[str, Any]:
    found = sweep.result
    names = ("network_mb", "memory_mb", "p50_s", "p95_s")
    rows = [
        {name: row[name] for name in ("variant", "what", "status", "verdict")}
        | {name: row["figures"][name] if row["figures"] else None for name in names}
        for row in found["table"]
    ]
    return {
        "version": found["version"],
        "seconds": round(sweep.seconds, 1),
        "best": found["best"],
        "offered": found["offered"],
        "rows": rows,
    }


def promotion_entry(promotion: Promotion) -> dict[str, Any]:
    move = promotion.run.result
    approvals = [{"task": given.task_id, "url": given.url, "asked_s": round(given.asked_s, 1)} for given in promotion.approvals]
    return {
        "version": move["version"],
        "previous": move["previous"],
        "seconds": round(promotion.run.seconds, 1),
        "approvals": approvals,
        "canary": promotion.verdict,
    }


def canary_entry(rollback: Rollback) -> dict[str, Any] | None:
    trial = rollback.trial
    if trial is None:
        return None
    versions = [shot.event.model_version for shot in trial.of(rollback.shots)]
    return {
        "share": trial.share,
        "seconds": round(trial.ended_at - trial.began_at, 2),
        "requests": {version: versions.count(version) for version in (rollback.first, rollback.second)},
    }


def rollback_entry(rollback: Rollback) -> dict[str, Any]:
    return {
        "from_version": rollback.second,
        "to_version": rollback.first,
        "seconds": round(rollback.seconds, 3),
        "requests_meanwhile": len(rollback.shots),
        "failed": len(rollback.lost),
        "canary": canary_entry(rollback),
        "versions": {version: version_figures(rollback, version) for version in (rollback.first, rollback.second)},
    }


def version_figures(rollback: Rollback, version: str) -> dict[str, Any]:
    """Of the stream's requests that a version rendered: how many, and seconds from sending to the image."""
    took = [shot.event.at - shot.sent_at for shot in rollback.shots if shot.event.model_version == version and shot not in rollback.lost]
    return {"count": len(took), "image_p50_s": percentile(took, 0.5), "image_p95_s": percentile(took, 0.95)}


def write_report(report: dict[str, Any], out: Path) -> Path:
    path = out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return path
