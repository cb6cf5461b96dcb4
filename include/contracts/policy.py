"""What the policy table is made of: which lane, how much of it, at what quality, on which workers."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Annotated

from pydantic import Field

from include.contracts.base import Name, Part
from include.contracts.events import Lane
from include.contracts.requests import MAX_STEPS, ServiceClass, Tier

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class LaneRule(Part):
    """Of the rules for a service class and tier, the one with the least ``max_gpu_s`` that holds the predicted cost names the lane."""

    service_class: ServiceClass
    tier: Tier
    lane: Lane
    max_gpu_s: float | None = Field(None, gt=0, le=1e9, description="Largest predicted cost in device seconds; empty means any.")


class Quota(Part):
    """What one tenant may ask for and use. Device seconds are those predicted at admission, corrected by what completions cost."""

    rate: float = Field(ge=1e-6, le=1e6, description="Device seconds that the tenant's bucket gains each second.")
    burst_s: float = Field(gt=0, le=1e9, description="Device seconds the bucket holds at most.")
    max_queued: int = Field(ge=1, le=1_000_000, description="Requests that may wait at once.")
    max_running: int = Field(ge=1, le=100_000, description="Requests that may be with workers at once.")
    weight: float = Field(1.0, gt=0, le=1000, description="Share of a lane against other backlogged tenants' weights.")


class Rung(Part):
    """One step of the degradation ladder, as the whole of what it does to a request."""

    steps: Share = Field(1.0, description="Share of the asked denoising steps that run.")
    size: Share = Field(1.0, description="Share of the asked side length that renders; the image is scaled up to the asked size.")
    distilled: bool = Field(False, description="Whether the model's distilled stand-in renders, where its route names one.")
    near: Share | None = Field(
        None, description="Answer with an image that the tenant got before, where its prompt's cosine similarity is at least this."
    )


class QualityFloor(Part):
    """What degradation may not go below."""

    steps: Share = Field(description="Least share of the asked denoising steps.")
    min_steps: int = Field(1, ge=1, le=MAX_STEPS, description="Least denoising steps, unless fewer were asked for.")
    size: Share = Field(description="Least share of the asked side length.")
    distilled: bool = Field(description="Whether a distilled model may stand in.")
    near: Share | None = Field(None, description="Least similarity of an earlier image's prompt; empty means only the request's own image.")


class PoolRule(Part):
    """Who may use a pool and what fits it. A pool without a rule takes everything at price 1."""

    price: float = Field(1.0, ge=0, le=1e6, description="Of a device second, relative to the other pools.")
    tiers: tuple[Tier, ...] = Field((), description="Tiers it serves; empty means all.")
    lanes: tuple[Lane, ...] = Field((), description="Lanes it serves; empty means all.")
    max_pixels: int | None = Field(None, ge=1, description="Largest width times height it renders.")
    models: tuple[Name, ...] = Field((), description="Models it renders; empty means all.")


def default_quotas() -> dict[Tier, Quota]:
    return {
        Tier.FREE: Quota(rate=4.0, burst_s=1200.0, max_queued=10_000, max_running=64, weight=1.0),
        Tier.PRO: Quota(rate=40.0, burst_s=12_000.0, max_queued=50_000, max_running=512, weight=2.0),
        Tier.ENTERPRISE: Quota(rate=400.0, burst_s=120_000.0, max_queued=200_000, max_running=4096, weight=4.0),
    }


def default_ladder() -> tuple[Rung, ...]:
    smallest = Rung(steps=0.5, size=0.5, distilled=True)
    return (Rung(steps=0.75), Rung(steps=0.5), Rung(steps=0.5, size=0.5), smallest, smallest.model_copy(update={"near": 0.95}))


def default_quality_floors() -> dict[Tier, QualityFloor]:
    return {
        Tier.FREE: QualityFloor(steps=0.5, min_steps=4, size=0.5, distilled=True, near=0.95),
        Tier.PRO: QualityFloor(steps=0.5, min_steps=6, size=1.0, distilled=False),
        Tier.ENTERPRISE: QualityFloor(steps=0.75, min_steps=8, size=1.0, distilled=False),
    }


def default_floors() -> dict[Lane, float]:
    return {Lane.HIGH: 0.5, Lane.NORMAL: 0.15, Lane.LOW: 0.05}


def default_objectives() -> dict[Lane, float]:
    return {Lane.HIGH: 5.0, Lane.NORMAL: 60.0, Lane.LOW: 1800.0}


def lanes_trouble(rules: tuple[LaneRule, ...]) -> str | None:
    """What contradicts itself or is missing in a table of lanes, in words."""
    keys = [(rule.service_class, rule.tier, rule.max_gpu_s) for rule in rules]
    repeated = next((key for key in keys if keys.count(key) > 1), None)
    if repeated is not None:
        return f"lanes: two rules for {repeated[0]} {repeated[1]} with the same max_gpu_s; keep one"
    for service_class, tier in product(ServiceClass, Tier):
        if (service_class, tier, None) not in keys:
            return f"lanes: {service_class} {tier} has no rule without max_gpu_s; every pair of service_class and tier needs one"
    return None


def ladder_trouble(ladder: tuple[Rung, ...]) -> str | None:
    """What contradicts itself in a ladder, in words: each rung must give up at least as much as the one before."""
    for number, (upper, lower) in enumerate(pairwise(ladder), start=2):
        near = (1.0 if lower.near is None else lower.near) > (1.0 if upper.near is None else upper.near)
        if near or lower.steps > upper.steps or lower.size > upper.size or lower.distilled < upper.distilled:
            return f"ladder: rung {number} gives more quality than rung {number - 1}; order the rungs from best to worst"
    return None
