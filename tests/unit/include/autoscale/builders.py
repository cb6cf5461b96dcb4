"""Demands, pools, events and worker messages to test autoscaling with."""

from __future__ import annotations

from typing import Any

from include.autoscale.rules import PoolScaling
from include.autoscale.sizer import Decision, Sizer
from include.autoscale.sizing import Demand, PoolNow, Snapshot
from include.contracts.events import Lane, State, StatusEvent, event_id
from include.contracts.requests import ServiceClass, Tier
from include.contracts.workers import Credit

NOW = 1_000_000.0
OBJECTIVES = {Lane.HIGH: 5.0, Lane.NORMAL: 60.0, Lane.LOW: 1800.0}


def rule(**changes: Any) -> PoolScaling:
    return PoolScaling(**{"max_workers": 10, "start_s": 10.0, "down_after_s": 60.0, "down_every_s": 10.0, **changes})


def snapshot(*demands: Demand, at: float = NOW, **pools: PoolNow) -> Snapshot:
    return Snapshot(at=at, demands=demands, pools=pools, objectives=OBJECTIVES)


def decide(sizer: Sizer, now: PoolNow, *demands: Demand, at: float = NOW, scaling: PoolScaling | None = None) -> Decision:
    """What the one pool ``std`` becomes."""
    (decision,) = sizer.decide(snapshot(*demands, at=at, std=now), {"std": scaling or rule()})
    return decision


def event(state: State, name: str = "r1", *, at: float = NOW, attempt: int = 0, **fields: Any) -> StatusEvent:
    known = {"tenant": "acme", "tier": Tier.PRO, "service_class": ServiceClass.REALTIME, "lane": Lane.HIGH}
    identity = event_id(name, state, 0 if state.terminal else attempt)
    return StatusEvent(event_id=identity, request_id=name, state=state, attempt=attempt, at=at, **{**known, **fields})


def queued(
    name: str = "r1", predicted_s: float = 2.0, *, told_s: float | None = None, pools: tuple[str, ...] = (), **fields: Any
) -> StatusEvent:
    trace: dict[str, Any] = {"predicted_gpu_s": predicted_s}
    if told_s is not None:
        trace["queued_gpu_s"] = told_s
    if pools:
        trace["pools"] = list(pools)
    return event(State.QUEUED, name, trace=trace, **fields)


def credit(worker_id: str = "w-0", *, at: float = NOW, pool: str = "std", incarnation: str = "i-1", **fields: Any) -> Credit:
    return Credit(worker_id=worker_id, incarnation=incarnation, cell="cell-0", pool=pool, at=at, **fields)
