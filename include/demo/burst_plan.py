"""What is asked for in the burst: so much more than the workers can do, by tenants of every kind."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from include.contracts.control import ModelDefaults
from include.contracts.events import StatusEvent
from include.contracts.requests import MAX_STEPS, ServiceClass, Tier
from include.demo.good_requests import PROMPTS
from include.demo.planned import Planned, Way, kafka_value
from include.demo.steps import StepFailedError

TIMES = 5.0  #: what is offered, in what the workers can do


@dataclass(frozen=True, kw_only=True)
class Source:
    """One tenant's part of the burst."""

    tenant: str
    tier: Tier
    service_class: ServiceClass
    share: float  #: of the device seconds that are offered
    steps: float = 1.0  #: denoising steps of a request, by the model's default
    images: int = 1
    whole_every: int = 0  #: every so many requests one may not be degraded; 0 means that all may


#: What goes to the high lane is half of what the workers can do: its waits stay flat whatever the others ask for. Of these one is greedy
#: (initech asks for four times what its quota gives) and one expensive (a request of hooli's costs as much as six of the usual). Batch
#: requests differ in steps from those before them, so that they don't ride along in their micro-batches but wait for their lane's share.
SOURCES = (
    Source(tenant="acme", tier=Tier.ENTERPRISE, service_class=ServiceClass.REALTIME, share=0.05),
    Source(tenant="globex", tier=Tier.PRO, service_class=ServiceClass.REALTIME, share=0.05),
    Source(tenant="initech", tier=Tier.FREE, service_class=ServiceClass.REALTIME, share=0.26),
    Source(tenant="umbrella", tier=Tier.FREE, service_class=ServiceClass.REALTIME, share=0.05, steps=1.5, whole_every=3),
    Source(tenant="stark", tier=Tier.FREE, service_class=ServiceClass.REALTIME, share=0.05),
    Source(tenant="wayne", tier=Tier.FREE, service_class=ServiceClass.REALTIME, share=0.05, steps=2.0),
    Source(tenant="hooli", tier=Tier.PRO, service_class=ServiceClass.REALTIME, share=0.10, steps=3.0, images=2, whole_every=4),
    Source(tenant="acme", tier=Tier.ENTERPRISE, service_class=ServiceClass.BATCH, share=0.09, steps=1.5),
    Source(tenant="globex", tier=Tier.PRO, service_class=ServiceClass.BATCH, share=0.27, steps=1.75),
    Source(tenant="tyrell", tier=Tier.FREE, service_class=ServiceClass.BATCH, share=0.03, steps=1.25),
)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What the workers were seen to do. A unit is one image with the model's default steps and size."""

    workers: int
    unit_s: float  #: device seconds of a unit
    defaults: ModelDefaults

    @property
    def units_per_s(self) -> float:
        return self.workers / self.unit_s

    def units_run(self, event: StatusEvent) -> float:
        """What a completion was made of."""
        return units_run(event, self.defaults)

    def units(self, fields: dict[str, Any]) -> float:
        """What a request costs."""
        width, height = asked_size(fields, self.defaults)
        pixels = width * height / (self.defaults.width * self.defaults.height)
        return float(fields.get("steps", self.defaults.steps) / self.defaults.steps * fields.get("images", 1) * pixels)


@dataclass(frozen=True, kw_only=True)
class BurstSize:
    run: str  #: in every id
    capacity: Capacity
    seconds: float  #: how long it is sent
    times: float = TIMES


@dataclass(frozen=True, kw_only=True)
class BurstRequest:
    planned: Planned
    at_s: float  #: when it is sent, from the start of the burst
    units: float

    @property
    def id(self) -> str:
        return self.planned.request_id or ""

    @property
    def may_degrade(self) -> bool:
        return bool(self.planned.fields.get("allow_degradation", True))


def asked_size(fields: dict[str, Any], defaults: ModelDefaults) -> tuple[int, int]:
    return fields.get("width", defaults.width), fields.get("height", defaults.height)


def units_run(event: StatusEvent, defaults: ModelDefaults) -> float:
    """Images by the share of the model's default steps that ran; pixels are taken for the default ones."""
    return event.usage.steps / defaults.steps * len(event.images) if event.usage else 0.0


def measure_capacity(ended: Iterable[StatusEvent], defaults: ModelDefaults, workers: int) -> Capacity:
    """From what completions cost; the median, because the first images of a worker that still tries out shapes cost many times the usual.

    Raises :class:`StepFailedError` where there is nothing to measure.
    """
    costs = [event.usage.gpu_seconds / run for event in ended if event.usage is not None and (run := units_run(event, defaults))]
    if not costs or not workers:
        raise StepFailedError(f"no capacity to measure: {workers} workers, {len(costs)} completed requests; see `atelier logs worker-0`")
    return Capacity(workers=workers, unit_s=median(costs), defaults=defaults)


def plan_burst(size: BurstSize) -> list[BurstRequest]:
    """In the order in which they are sent; each source spreads its requests evenly, a little out of step with the others."""
    dice, capacity = random.Random(size.run), size.capacity
    plan: list[BurstRequest] = []
    for number, source in enumerate(SOURCES):
        units = capacity.units(_fields(source, 0, capacity.defaults))
        count = max(1, round(source.share * size.times * capacity.units_per_s * size.seconds / units))
        for index in range(count):
            planned = _planned(f"{size.run}-burst-{number}-{index:03}", source, index, capacity.defaults)
            at_s = (index + dice.random()) * size.seconds / count
            plan.append(BurstRequest(planned=planned, at_s=at_s, units=capacity.units(planned.fields)))
    return sorted(plan, key=lambda request: request.at_s)


def _planned(request_id: str, source: Source, index: int, defaults: ModelDefaults) -> Planned:
    fields = {"seed": zlib.crc32(request_id.encode()), **_fields(source, index, defaults)}
    return Planned(
        label=fields["prompt"],
        way=Way.KAFKA,
        service_class=source.service_class,
        tenant=source.tenant,
        tier=source.tier,
        value=kafka_value(request_id, source.tenant, source.tier, fields),
        request_id=request_id,
        key=request_id,
        fields=fields,
    )


def _fields(source: Source, index: int, defaults: ModelDefaults) -> dict[str, Any]:
    """What the message asks for; what the model does by default is left out."""
    fields: dict[str, Any] = {"prompt": PROMPTS[zlib.crc32(source.tenant.encode()) % 7 + index % 25]}
    if source.steps != 1:
        fields["steps"] = min(MAX_STEPS, math.ceil(source.steps * defaults.steps))
    if source.images > 1 and defaults.max_images > 1:
        fields["images"] = min(source.images, defaults.max_images)
    if source.whole_every and index % source.whole_every == 0:
        fields["allow_degradation"] = False
    return fields
