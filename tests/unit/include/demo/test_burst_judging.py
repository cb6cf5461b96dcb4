from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Lane, State, StatusEvent, Usage
from include.demo.burst import Burst
from include.demo.burst_fates import Fate
from include.demo.burst_judging import HighLane, fault_of, faults_of, high_lane
from include.demo.burst_plan import BurstRequest
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import completed, event_of
from tests.unit.include.demo.rehearsal import DEFAULTS, Rehearsal


@pytest.fixture
def request_of(burst: Burst) -> Callable[..., BurstRequest]:
    """The first of the burst with these fields."""

    def find(**fields: Any) -> BurstRequest:
        found = (fate.request for fate in burst.fates)
        return next(one for one in found if all(one.planned.fields.get(name) == value for name, value in fields.items()))

    return find


def fate(request: BurstRequest, *events: StatusEvent) -> Fate:
    return Fate(request=request, sent_at=999.0, events=events, steps=12)


def refused(request: BurstRequest, code: ReasonCode, retry_after_s: float | None) -> StatusEvent:
    return event_of(request.planned, State.REFUSED, reason=Reason(code=code, message="not now", retry_after_s=retry_after_s))


def test_a_completion_whose_images_are_there_has_no_fault(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    for request in (request_of(), request_of(images=2)):
        assert fault_of(fate(request, completed(request.planned, store)), DEFAULTS, store) == ""


def test_an_image_of_another_size_than_asked_for_is_a_fault(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    request = request_of()
    larger = DEFAULTS.model_copy(update={"width": 128, "height": 128, "sizes": ()})
    assert "is 64x64, asked for were 128x128" in fault_of(fate(request, completed(request.planned, store)), larger, store)


def test_an_image_that_is_not_stored_is_a_fault(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    event = completed(request_of().planned, store)
    lost = event.model_copy(update={"images": (event.images[0].model_copy(update={"key": "images/acme/nowhere/0.png"}),)})
    assert "nowhere" in fault_of(fate(request_of(), lost), DEFAULTS, store)


def test_fewer_images_than_asked_for_are_a_fault(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    event = completed(request_of(images=2).planned, store)
    short = event.model_copy(update={"images": event.images[:1]})
    assert fault_of(fate(request_of(images=2), short), DEFAULTS, store) == "1 images instead of 2"


def test_who_opted_out_may_not_be_degraded(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    request = request_of(allow_degradation=False)
    event = completed(request.planned, store, degraded=("6 of 12 steps",))
    assert "although it may not be" in fault_of(fate(request, event), DEFAULTS, store)


@pytest.mark.parametrize(
    ("code", "retry_after_s", "fault"),
    [
        (ReasonCode.RATE_LIMITED, 2.0, ""),
        (ReasonCode.OVERLOADED, 0.0, ""),
        (ReasonCode.OVERLOADED, None, "without a time to come back"),
        (ReasonCode.UNKNOWN_MODEL, 2.0, "unknown_model"),
    ],
)
def test_a_refusal_says_when_to_come_back(
    code: ReasonCode, retry_after_s: float | None, fault: str, request_of: Callable[..., BurstRequest], store: ObjectStore
) -> None:
    found = fault_of(fate(request_of(), refused(request_of(), code, retry_after_s)), DEFAULTS, store)
    assert fault in found and bool(fault) == bool(found)


def test_what_never_ended_is_a_fault(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    request = request_of()
    assert fault_of(fate(request), DEFAULTS, store) == "no event was seen"
    assert "never ended" in fault_of(fate(request, event_of(request.planned, State.QUEUED)), DEFAULTS, store)
    failed = event_of(request.planned, State.FAILED, reason=Reason(code=ReasonCode.RENDER_FAILED, message="it broke"))
    assert "it broke" in fault_of(fate(request, failed), DEFAULTS, store)


def test_what_expired_with_a_reason_is_none(request_of: Callable[..., BurstRequest], store: ObjectStore) -> None:
    request = request_of()
    expired = event_of(request.planned, State.EXPIRED, reason=Reason(code=ReasonCode.DEADLINE_PASSED, message="too late"))
    assert fault_of(fate(request, expired), DEFAULTS, store) == ""


@pytest.mark.parametrize(("calm", "bound_s"), [((), 5.0), ((0.1,) * 9 + (60.0,), 5.0), ((3.0,) * 10, 9.0)])
def test_the_bound_follows_the_calm(calm: tuple[float, ...], bound_s: float) -> None:
    assert HighLane(calm=calm, burst=()).bound_s == bound_s


def test_a_machine_that_got_slower_is_given_longer(burst: Burst) -> None:
    assert high_lane(burst, [0.1]).slowdown == pytest.approx(1.0)
    slower = high_lane(Rehearsal(6, 0.3, 2.0).run(), [0.1])
    assert slower.slowdown == pytest.approx(2.0, rel=0.01) and slower.bound_s == pytest.approx(10.0, rel=0.01)


def test_a_high_lane_that_is_not_flat_is_a_fault_and_many_faults_are_cut_short(burst: Burst, store: ObjectStore) -> None:
    high = high_lane(burst, [0.1])
    faults = faults_of(burst, HighLane(calm=(0.1,), burst=(6.0,) * 10), store)
    assert faults[-1] == "burst: one in ten of the high lane waited 6.0 s or more, over the bound of 5.0 s"
    stored_nowhere = sum(one.state is State.COMPLETED for one in burst.fates)
    assert faults[-2] == f"burst: {stored_nowhere - 5} more like these"
    assert len(faults_of(burst, high, store)) == 6
    assert "no request of the high lane" in faults_of(burst, HighLane(calm=(), burst=()), store)[-1]


def test_a_fate_reads_its_events(request_of: Callable[..., BurstRequest]) -> None:
    planned = request_of().planned
    story = fate(
        request_of(),
        event_of(planned, State.QUEUED, at=1000.0, lane=Lane.HIGH),
        event_of(planned, State.PROCESSING, at=1001.0, lane=Lane.HIGH),
        event_of(planned, State.RETRYING, at=1002.0, lane=Lane.HIGH),
        event_of(planned, State.PROCESSING, at=1003.5, lane=Lane.HIGH),
        event_of(planned, State.COMPLETED, at=1004.0, lane=Lane.HIGH, usage=Usage(gpu_seconds=1, render_s=1, steps=6)),
    )
    assert (story.held_back_s, story.wait_s, story.took_s, story.retried, story.steps_share) == (1.0, 4.5, 5.0, True, 0.5)
