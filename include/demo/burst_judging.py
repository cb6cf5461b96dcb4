"""Did the burst end as it must? Every image is fetched and decoded; nobody's word is taken for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from include.contracts.control import ModelDefaults
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.demo.burst import Burst
from include.demo.burst_fates import Fate
from include.demo.burst_plan import asked_size
from include.demo.judging import fetch
from include.demo.statistics import percentile
from include.storage import ObjectStore

#: The wait that nine of ten requests of the high lane stay below must not pass the larger of these: so many seconds, so many times the calm
#: one. A request of the high lane starts behind whole micro-batches of others; where the machine renders more slowly than it did before,
#: because it has other things to do as well, the bound is that much longer.
HIGH_WAIT_S, HIGH_WAIT_TIMES = 5.0, 3.0
COME_BACK = frozenset({ReasonCode.RATE_LIMITED, ReasonCode.OVERLOADED})
EXPLAINED = frozenset({State.EXPIRED, State.CANCELLED})
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class HighLane:
    """How the waits of the high lane in the burst compare with the calm before it, in seconds."""

    calm: tuple[float, ...]
    burst: tuple[float, ...]
    slowdown: float = 1.0  #: device seconds of an image while the burst was sent, by those measured before it; at least 1

    @property
    def bound_s(self) -> float:
        return self.slowdown * max(HIGH_WAIT_S, HIGH_WAIT_TIMES * (percentile(self.calm, 0.9) or 0.0))

    @property
    def p90_s(self) -> float | None:
        return percentile(self.burst, 0.9)


def high_lane(burst: Burst, calm: Sequence[float]) -> HighLane:
    waits = (fate.wait_s for fate in burst.fates if fate.lane is Lane.HIGH and fate.wait_s is not None)
    return HighLane(calm=tuple(calm), burst=tuple(waits), slowdown=slowdown_of(burst))


def slowdown_of(burst: Burst) -> float:
    """Of what was dispatched while the burst was sent; 1 where that is nothing."""
    early = (fate for fate in burst.fates if fate.wait_s is not None and fate.sent_at + fate.wait_s < burst.started_at + burst.sending_s)
    events = [fate.newest for fate in early if fate.newest is not None and fate.newest.usage is not None]
    spent = sum(event.usage.gpu_seconds for event in events if event.usage is not None)
    units = sum(burst.capacity.units_run(event) for event in events)
    return max(1.0, spent / units / burst.capacity.unit_s) if units else 1.0


def faults_of(burst: Burst, high: HighLane, store: ObjectStore) -> list[str]:
    """What is not as it must be: a sentence a request, the first few of many."""
    defaults = burst.capacity.defaults
    wrong = [f"{fate.request.id}: {fault}" for fate in burst.fates if (fault := fault_of(fate, defaults, store))]
    shown = wrong[:SHOWN] + ([f"burst: {len(wrong) - SHOWN} more like these"] if len(wrong) > SHOWN else [])
    if high.p90_s is None:
        return [*shown, "burst: no request of the high lane was dispatched"]
    if high.p90_s > high.bound_s:
        shown.append(f"burst: one in ten of the high lane waited {high.p90_s:.1f} s or more, over the bound of {high.bound_s:.1f} s")
    return shown


def fault_of(fate: Fate, defaults: ModelDefaults, store: ObjectStore) -> str:
    """Empty where nothing is wrong."""
    event = fate.newest
    if event is None:
        return "no event was seen"
    if fate.refusal is not None:
        return _refusal_fault(fate)
    if event.state in EXPLAINED and event.reason is not None:
        return ""
    if event.state is not State.COMPLETED:
        return f"admitted, and then {event.state}: {event.reason.message if event.reason else 'it never ended'}"
    if fate.degraded and not fate.request.may_degrade:
        return f"degraded ({'; '.join(fate.degraded)}) although it may not be"
    return _images_fault(fate, defaults, store)


def _refusal_fault(fate: Fate) -> str:
    reason = fate.refusal
    assert reason is not None
    if reason.code not in COME_BACK:
        return f"refused: {reason.code}: {reason.message}"
    return "" if reason.retry_after_s is not None else f"refused as {reason.code} without a time to come back"


def _images_fault(fate: Fate, defaults: ModelDefaults, store: ObjectStore) -> str:
    assert fate.newest is not None
    fields, images = fate.request.planned.fields, fate.newest.images
    wanted, size = fields.get("images", 1), asked_size(fields, defaults)
    if len(images) != wanted:
        return f"{len(images)} images instead of {wanted}"
    for image in images:
        if (image.width, image.height) != size:
            return f"{image.key} is {image.width}x{image.height}, asked for were {size[0]}x{size[1]}"
        _, fault = fetch(image, store)
        if fault:
            return fault
    return ""
