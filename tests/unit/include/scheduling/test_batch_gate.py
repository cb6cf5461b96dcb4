"""When batch requests may come in, and that they are never refused for want of room."""

from __future__ import annotations

import pytest

from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.events import Lane, State
from include.contracts.requests import ServiceClass, Tier
from include.scheduling.batch_room import REOPENS_AT, SHARED
from tests.unit.include.scheduling.harness import Desk

BATCH, REALTIME = ServiceClass.BATCH, ServiceClass.REALTIME
BOUND_S = 100.0


def policy(**bounds: float) -> Policy:
    """The default table: batch requests of free and pro go to low, of enterprise to normal, beside realtime ones of free."""
    lanes = {**dict.fromkeys(Lane, 10_000.0), **{Lane(name): bound for name, bound in bounds.items()}}
    return default_policy().model_copy(update={"lane_bound_s": lanes, "ladder": ()})


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.control(policy(low=BOUND_S))
    return desk


def send(desk: Desk, count: int, service_class: ServiceClass = BATCH, tier: Tier = Tier.PRO) -> list[str]:
    """Requests of about one device second; each must be queued."""
    ids = [f"{service_class}-{tier}-{len(desk.decisions)}-{number}" for number in range(count)]
    for name in ids:
        desk.submit(name, service_class, tier=tier, tenant=f"{tier}-{service_class}")
        assert desk.states(name) == [State.QUEUED]
    return ids


def send_until_closed(desk: Desk, tier: Tier = Tier.PRO) -> list[str]:
    ids: list[str] = []
    while desk.scheduler.batch_open():
        assert desk.scheduler.queued_s(Lane.LOW if tier is Tier.PRO else Lane.NORMAL) <= 2 * BOUND_S
        ids += send(desk, 1, tier=tier)
    return ids


def drain_to(desk: Desk, lane: Lane, ids: list[str], queued_s: float) -> None:
    while desk.scheduler.queued_s(lane) >= queued_s:
        name = ids.pop()
        tenant = next(event.tenant for event in desk.decisions if getattr(event, "request_id", "") == name)
        desk.cancel(name, tenant)


def test_open_with_nothing_to_do(desk: Desk) -> None:
    assert desk.scheduler.batch_open()


def test_it_closes_at_the_bound_and_not_before(desk: Desk) -> None:
    (name,) = send(desk, 1)
    cost_s = desk.scheduler.entries()[name].predicted_s
    send_until_closed(desk)
    assert BOUND_S <= desk.scheduler.queued_s(Lane.LOW) < BOUND_S + cost_s + 1e-6


def test_what_comes_over_the_bound_is_taken(desk: Desk) -> None:
    send_until_closed(desk)
    send(desk, 50)
    assert desk.scheduler.queued_s(Lane.LOW) > 1.2 * BOUND_S


def test_it_opens_again_only_below_nine_tenths(desk: Desk) -> None:
    ids = send_until_closed(desk)
    drain_to(desk, Lane.LOW, ids, 0.95 * BOUND_S)
    assert not desk.scheduler.batch_open()
    drain_to(desk, Lane.LOW, ids, REOPENS_AT * BOUND_S)
    assert desk.scheduler.batch_open()
    send(desk, 3)
    assert desk.scheduler.batch_open()


def test_a_full_lane_without_batch_requests_keeps_nobody_out(desk: Desk) -> None:
    desk.control(policy(high=1.5))
    send(desk, 1, REALTIME, Tier.PRO)
    desk.submit("too-much", REALTIME, tier=Tier.PRO)
    assert desk.states("too-much") == [State.REFUSED]
    assert desk.scheduler.batch_open()


def test_in_a_lane_with_realtime_requests_it_closes_before_they_are_degraded(desk: Desk) -> None:
    desk.control(policy(normal=BOUND_S))
    send_until_closed(desk, Tier.ENTERPRISE)
    limit = SHARED * default_policy().degrade_from * BOUND_S
    assert limit <= desk.scheduler.queued_s(Lane.NORMAL) < 1.2 * limit


def test_realtime_requests_in_a_shared_lane_keep_no_batch_requests_out(desk: Desk) -> None:
    desk.control(policy(normal=BOUND_S))
    send(desk, int(0.9 * BOUND_S), REALTIME, Tier.FREE)
    assert desk.scheduler.batch_open()
    send(desk, 5, BATCH, Tier.ENTERPRISE)
    assert desk.scheduler.batch_open()


def test_batch_requests_behind_realtime_ones_in_a_shared_lane_still_have_their_limit(desk: Desk) -> None:
    desk.control(policy(normal=BOUND_S))
    send(desk, int(0.9 * BOUND_S), REALTIME, Tier.FREE)
    sent = 0
    while desk.scheduler.batch_open():
        sent += len(send(desk, 1, BATCH, Tier.ENTERPRISE))
        assert sent < BOUND_S
    assert sent >= SHARED * default_policy().degrade_from * BOUND_S - 1


def test_a_new_policy_opens_it(desk: Desk) -> None:
    send_until_closed(desk)
    desk.control(policy(low=10 * BOUND_S))
    assert desk.scheduler.batch_open()


def test_a_restored_scheduler_knows_that_it_is_full(desk: Desk) -> None:
    send_until_closed(desk)
    desk.restart()
    desk.tick()
    assert not desk.scheduler.batch_open()


def test_the_low_lane_is_filled_again_when_workers_empty_it(desk: Desk) -> None:
    send_until_closed(desk)
    desk.hello(slots=16)
    seen = 0
    while not desk.scheduler.batch_open():
        for lease in list(desk.scheduler.leases()):
            held = next(one for one in desk.decisions if getattr(one, "lease_id", "") == lease)
            desk.complete(held)
            seen += 1
        assert seen < 2 * BOUND_S
    assert desk.scheduler.queued_s(Lane.LOW) < REOPENS_AT * BOUND_S
