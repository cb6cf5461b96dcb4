"""Small scenarios and arrivals to test the simulator with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from include.contracts.requests import GenerationRequest, ServiceClass, Tier
from include.simulation.policy import Arrival, Assigned, Move, Policy, WorkerSpec
from include.simulation.scenario import POOL, START, Scenario, mixed


def small(**changes: Any) -> Scenario:
    """The mixed scenario on two workers that render one request at a time."""
    return replace(mixed(workers=2), **{"max_batch": 1, **changes})


def arrival(
    request_id: str,
    *,
    at: float = START,
    tenant: str = "acme",
    tier: Tier = Tier.FREE,
    service_class: ServiceClass = ServiceClass.REALTIME,
    **fields: Any,
) -> Arrival:
    """A request of model studio at its defaults."""
    request = GenerationRequest(**{"request_id": request_id, "tenant": tenant, "tier": tier, "prompt": "a red heart", **fields})
    return Arrival(at=at, request=request, service_class=service_class, raw=request.to_json().decode("latin-1"))


def served(policy: Policy, arrivals: list[Arrival], *, max_batch: int = 1) -> list[tuple[str, ...]]:
    """The micro-batches of one worker that takes the next when it has finished one, after everything has arrived."""
    moves = [move for one in arrivals for move in policy.submit(one, START)]
    moves += policy.join(WorkerSpec(id="w-0", pool=POOL, slots=1, max_batch=max_batch), START)
    batches: list[tuple[str, ...]] = []
    while (lease := _lease(moves)) is not None:
        batches.append(tuple(task.request_id for task in lease.tasks))
        moves = policy.completed(lease, 1.0, START)
    return batches


def _lease(moves: list[Move]) -> Assigned | None:
    return next((move for move in moves if isinstance(move, Assigned)), None)
