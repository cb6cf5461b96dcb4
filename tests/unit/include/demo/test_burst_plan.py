from __future__ import annotations

from collections import Counter

import pytest

from include.contracts.control import ModelDefaults
from include.contracts.events import ImageResult, State, StatusEvent, Usage
from include.contracts.requests import GenerationRequest, Tier
from include.demo.burst_plan import SOURCES, BurstSize, Capacity, measure_capacity, plan_burst
from include.demo.steps import StepFailedError
from tests.unit.include.demo.rehearsal import DEFAULTS

CAPACITY = Capacity(workers=2, unit_s=0.25, defaults=DEFAULTS)
PLAN = plan_burst(BurstSize(run="run", capacity=CAPACITY, seconds=15))


def completion(steps: int, images: int, gpu_seconds: float) -> StatusEvent:
    image = ImageResult(index=0, key="k", sha256="0" * 64, size_bytes=1, width=64, height=64, seed=1, media_type="image/png")
    usage = Usage(gpu_seconds=gpu_seconds, render_s=1.0, steps=steps)
    return StatusEvent(event_id="e", request_id="r", tenant="acme", state=State.COMPLETED, at=1.0, usage=usage, images=(image,) * images)


@pytest.mark.parametrize("unit_s", [0.05, 0.25, 0.6])
def test_five_times_the_capacity_is_asked_for_evenly(unit_s: float) -> None:
    capacity = Capacity(workers=2, unit_s=unit_s, defaults=DEFAULTS)
    plan = plan_burst(BurstSize(run="run", capacity=capacity, seconds=15))
    assert sum(request.units for request in plan) * unit_s == pytest.approx(5 * 2 * 15, rel=0.05)
    assert [request.at_s for request in plan] == sorted(request.at_s for request in plan)
    for start in (0, 5, 10):
        part = sum(request.units for request in plan if start <= request.at_s < start + 5) * unit_s
        assert part == pytest.approx(5 * 2 * 5, rel=0.15)


def test_shares_are_whole_and_those_with_priority_ask_for_no_more_than_there_is() -> None:
    assert sum(source.share for source in SOURCES) == pytest.approx(1)
    high = [source for source in SOURCES if source.tenant in ("acme", "globex") and source.service_class == "realtime"]
    assert 5 * sum(source.share for source in high) <= 0.6


def test_every_message_is_a_request_of_its_tenant() -> None:
    requests = [GenerationRequest.from_json(one.planned.value or b"") for one in PLAN]
    assert [(found.request_id, found.tenant) for found in requests] == [(one.id, one.planned.tenant) for one in PLAN]
    assert len({found.request_id for found in requests}) == len(PLAN)
    assert {found.tier for found in requests} == set(Tier)
    assert len({(found.steps, found.images) for found in requests}) >= 4
    assert {found.allow_degradation for found in requests} == {True, False}


def test_cost_counts_steps_images_and_pixels() -> None:
    assert CAPACITY.units({}) == 1
    assert CAPACITY.units({"steps": 24, "images": 2}) == 4
    assert CAPACITY.units({"width": 128, "height": 64}) == 2


def test_an_expensive_tenant_stands_beside_cheap_ones() -> None:
    dearest = Counter({one.planned.tenant: one.units for one in PLAN}).most_common(1)[0]
    assert dearest == ("hooli", 6.0)


def test_a_model_that_makes_one_image_at_a_time_is_asked_for_one() -> None:
    single = Capacity(workers=1, unit_s=0.3, defaults=ModelDefaults(width=64, height=64, steps=100, guidance=3.0, max_images=1))
    plan = plan_burst(BurstSize(run="run", capacity=single, seconds=5))
    assert all("images" not in one.planned.fields for one in plan)
    assert max(one.planned.fields.get("steps", 0) for one in plan) == 200


def test_capacity_is_what_completions_cost() -> None:
    found = measure_capacity([completion(12, 1, 0.3), completion(24, 2, 1.2)], DEFAULTS, 2)
    assert found.unit_s == pytest.approx(0.3)
    assert found.units_per_s == pytest.approx(2 / 0.3)


def test_a_few_slow_first_images_do_not_count_as_capacity() -> None:
    usual, first = completion(12, 1, 0.3), completion(12, 1, 9.0)
    assert measure_capacity([first, usual, usual, usual, first], DEFAULTS, 2).unit_s == pytest.approx(0.3)


@pytest.mark.parametrize(("ended", "workers"), [([], 2), ([completion(12, 1, 0.3)], 0), ([completion(12, 0, 0.3)], 2)])
def test_nothing_to_measure_is_said(ended: list[StatusEvent], workers: int) -> None:
    with pytest.raises(StepFailedError, match="no capacity"):
        measure_capacity(ended, DEFAULTS, workers)
