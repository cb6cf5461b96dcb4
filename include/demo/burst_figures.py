"""The figures of the burst for ``report.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from include.contracts.events import Admission, Lane, State
from include.demo.burst import Burst
from include.demo.burst_fates import Fate
from include.demo.burst_judging import COME_BACK, HighLane
from include.demo.statistics import percentile


def burst_figures(burst: Burst, high: HighLane) -> dict[str, Any]:
    fates = burst.fates
    return {
        "seconds": round(burst.seconds, 1),
        "sending_s": burst.sending_s,
        "capacity": {**capacity_figures(burst), "slowdown": round(high.slowdown, 2)},
        "offered": len(fates),
        "admitted": sum(fate.admitted for fate in fates),
        "completed": sum(fate.state is State.COMPLETED for fate in fates),
        "retried": sum(fate.retried for fate in fates),
        "states": dict(Counter(str(fate.state or "unheard of") for fate in fates)),
        "degraded": degraded_figures(fates),
        "deferred": deferred_figures(burst),
        "refused": refused_figures(fates),
        "lanes": {lane: lane_figures([fate for fate in fates if fate.lane is lane]) for lane in Lane},
        "tenants": tenant_figures(fates),
        "shares": shares_figures(burst),
        "high_lane": high_figures(high),
    }


def capacity_figures(burst: Burst) -> dict[str, Any]:
    capacity = burst.capacity
    offered = sum(fate.request.units for fate in burst.fates) * capacity.unit_s
    return {
        "workers": capacity.workers,
        "image_s": round(capacity.unit_s, 4),
        "images_per_s": round(capacity.units_per_s, 2),
        "offered_device_s": round(offered, 1),
        "offered_times": round(offered / (burst.sending_s * capacity.workers), 2),
    }


def degraded_figures(fates: Sequence[Fate]) -> dict[str, Any]:
    degraded = [fate for fate in fates if fate.degraded]
    shares = [fate.steps_share for fate in degraded if fate.steps_share is not None]
    return {
        "count": len(degraded),
        "steps_share_mean": round(sum(shares) / len(shares), 3) if shares else None,
        "steps_share_least": round(min(shares), 3) if shares else None,
        "words": dict(Counter(words for fate in degraded for words in fate.degraded).most_common()),
        "opted_out": sum(not fate.request.may_degrade and fate.admitted for fate in fates),
    }


def deferred_figures(burst: Burst) -> dict[str, Any]:
    deferred = [fate for fate in burst.fates if fate.deferred]
    held = [fate.held_back_s for fate in deferred if fate.held_back_s is not None]
    return {
        "count": len(deferred),
        "held_back_p50_s": _rounded(percentile(held, 0.5)),
        "held_back_max_s": _rounded(max(held, default=None)),
        "before_scheduler_peak": burst.peak_held_back,
        "kafka_lag_peak": burst.peak_lag,
        "told_by_router": sum(event.trace.get("outcome") == Admission.DEFERRED for fate in burst.fates for event in fate.events[:1]),
    }


def refused_figures(fates: Sequence[Fate]) -> dict[str, Any]:
    refusals = [reason for fate in fates if (reason := fate.refusal)]
    figures: dict[str, Any] = {}
    for code, count in Counter(reason.code for reason in refusals).most_common():
        after = [reason.retry_after_s for reason in refusals if reason.code is code and reason.retry_after_s is not None]
        example = next(reason.message for reason in refusals if reason.code is code)
        figures[code] = {
            "count": count,
            "retry_after_min_s": min(after, default=None),
            "retry_after_max_s": max(after, default=None),
            "example": example,
        }
    return figures


def lane_figures(fates: Sequence[Fate]) -> dict[str, Any]:
    waits = [fate.wait_s for fate in fates if fate.wait_s is not None]
    took = [fate.took_s for fate in fates if fate.took_s is not None]
    return {
        "count": len(fates),
        "degraded": sum(bool(fate.degraded) for fate in fates),
        "deferred": sum(fate.deferred for fate in fates),
        "wait_p50_s": _rounded(percentile(waits, 0.5)),
        "wait_p90_s": _rounded(percentile(waits, 0.9)),
        "wait_p99_s": _rounded(percentile(waits, 0.99)),
        "image_p50_s": _rounded(percentile(took, 0.5)),
    }


def tenant_figures(fates: Sequence[Fate]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({fate.request.planned.tenant for fate in fates}):
        mine = [fate for fate in fates if fate.request.planned.tenant == name]
        used = sum(fate.newest.usage.gpu_seconds for fate in mine if fate.newest and fate.newest.usage)
        codes = Counter(fate.refusal.code for fate in mine if fate.refusal)
        refused = {code: codes[code] for code in sorted({*COME_BACK, *codes})}
        completed = sum(fate.state is State.COMPLETED for fate in mine)
        tier = mine[0].request.planned.tier
        found[name] = {"tier": tier, "offered": len(mine), "completed": completed, "device_s": round(used, 1), "refused": refused}
    return found


def shares_figures(burst: Burst) -> dict[str, Any]:
    moves = [
        {"at_s": round(move.at - burst.started_at, 1), "before": move.before, "after": move.after, "reason": move.reason}
        for move in burst.moves
    ]
    after = burst.moves[-1].after if burst.moves else burst.policy.lane_floor
    return {"before": burst.policy.lane_floor, "after": after, "moves": moves}


def high_figures(high: HighLane) -> dict[str, Any]:
    return {
        "calm_p50_s": _rounded(percentile(high.calm, 0.5)),
        "calm_p90_s": _rounded(percentile(high.calm, 0.9)),
        "burst_p50_s": _rounded(percentile(high.burst, 0.5)),
        "burst_p90_s": _rounded(high.p90_s),
        "bound_p90_s": _rounded(high.bound_s),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
