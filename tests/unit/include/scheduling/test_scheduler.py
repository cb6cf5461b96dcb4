"""A scheduler over a store with content goes on where that store was."""

from __future__ import annotations

import time

from include.contracts.control import Scenario
from include.contracts.defaults import default_policy
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.contracts.requests import ServiceClass, Tier
from include.scheduling.store import Table
from tests.unit.include.scheduling.harness import LEASE_S, Desk, events, leases, letters, revokes, route
from tests.unit.include.scheduling.snapshot import snapshot


def restarted(desk: Desk) -> Desk:
    """After a restart at which nothing is due."""
    before = snapshot(desk.scheduler)
    desk.restart()
    assert desk.tick() == []
    assert snapshot(desk.scheduler) == before
    return desk


def test_a_queue_of_many_tenants_and_lanes_is_the_same_after_a_restart(desk: Desk) -> None:
    for number in range(200):
        service_class, tier = list(ServiceClass)[number % 2], list(Tier)[number % 3]
        deadline = desk.now + 100 - number if number % 5 == 0 else None
        desk.submit(f"r-{number}", service_class, tier=tier, tenant=f"t-{number % 7}", deadline_at=deadline)
    order = [entry.id for entry in desk.scheduler._cell.lanes[Lane.LOW].entries()]
    restarted(desk)
    assert [entry.id for entry in desk.scheduler._cell.lanes[Lane.LOW].entries()] == order


def test_leases_and_attempts_survive(desk: Desk) -> None:
    desk.hello(slots=2, max_batch=2)
    for number in range(6):
        desk.submit(f"r-{number}")
    desk.fail(desk.leased("r-0"), "r-0")
    restarted(desk)
    desk.complete(desk.leased("r-1"), "r-1")
    assert desk.ends("r-1") == [State.COMPLETED]


def test_a_restored_lease_gets_a_full_term(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.now += LEASE_S - 1
    restarted(desk)
    assert desk.tick(LEASE_S - 1) == []
    assert events(desk.tick(1))[0].state is State.RETRYING


def test_workers_get_nothing_before_they_said_what_they_hold(desk: Desk) -> None:
    desk.hello(slots=2)
    desk.submit("r-1")
    restarted(desk)
    assert not leases(desk.submit("r-2"))
    desk.credit(slots=2)
    assert desk.leased("r-2").worker_id == "w-0"


def test_a_lease_given_after_the_checkpoint_is_given_again_under_its_name(desk: Desk) -> None:
    desk.submit("r-1")
    checkpoint = {table: dict(desk.store.items(table)) for table in Table}
    desk.hello()
    given = desk.leased("r-1")
    desk.store._tables = checkpoint
    desk.restart()
    desk.hello()
    assert desk.leased("r-1").lease_id == given.lease_id


def test_but_not_if_its_worker_was_told_to_stop_it(desk: Desk) -> None:
    desk.submit("r-1")
    checkpoint = {table: dict(desk.store.items(table)) for table in Table}
    desk.hello()
    given = desk.leased("r-1")
    desk.store._tables = checkpoint
    desk.restart()
    assert [revoke.lease_id for revoke in revokes(desk.credit(held=(given.lease_id,)))] == [given.lease_id]
    desk.credit(held=())
    assert desk.leased("r-1").lease_id != given.lease_id


def test_a_result_of_a_lease_lost_with_the_checkpoint_counts_and_its_event_is_the_same(desk: Desk) -> None:
    desk.submit("r-1")
    checkpoint = {table: dict(desk.store.items(table)) for table in Table}
    desk.hello()
    desk.complete(desk.leased("r-1"))
    desk.store._tables = checkpoint
    desk.restart()
    desk.complete(desk.leased("r-1"))
    first, second = [event for event in events(desk.decisions) if event.state is State.COMPLETED]
    assert first.event_id == second.event_id
    assert not desk.scheduler.busy


def test_a_backoff_goes_on(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.fail(desk.leased("r-1"))
    restarted(desk)
    desk.tick(1)
    assert desk.states("r-1")[-1] is State.QUEUED


def test_one_whose_backoff_is_over_stays_in_its_lane(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.fail(desk.leased("r-1"))
    desk.tick(10)
    restarted(desk)
    assert desk.scheduler.depth(Lane.NORMAL) == 1


def test_a_parked_request_waits_on_for_its_model(desk: Desk) -> None:
    desk.submit("r-1")
    desk.control(route(serving=False, width=64, height=64))
    desk.hello()
    restarted(desk)
    desk.tick(3600)
    desk.hello()
    assert desk.ends("r-1") == []
    desk.control(route(version="2"))
    assert desk.leased("r-1").tasks[0].width == 32


def test_a_lease_whose_model_went_out_of_service_can_complete(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.control(route(serving=False))
    restarted(desk)
    desk.complete(desk.leased("r-1"))
    assert desk.ends("r-1") == [State.COMPLETED]


def test_ids_policy_scenarios_and_early_cancellations_survive(desk: Desk) -> None:
    desk.submit("r-1")
    desk.cancel("r-2")
    desk.control(default_policy().model_copy(update={"lease_s": 99.0}))
    desk.control(Scenario(at=desk.now, name="badge", model="emoji", steps=9))
    restarted(desk)
    assert letters(desk.submit("r-1"))[0].reason.code is ReasonCode.DUPLICATE_ID
    desk.submit("r-2")
    assert desk.ends("r-2") == [State.CANCELLED]
    desk.submit("r-3", scenario="badge")
    desk.hello(slots=4)
    assert desk.leased("r-3").lease_s == 99.0
    assert desk.leased("r-3").tasks[0].steps == 9


def test_a_held_request_survives(desk: Desk) -> None:
    held = Desk(routed=False)
    held.submit("r-1")
    restarted(held)
    held.control(route())
    assert held.states("r-1") == [State.QUEUED]


def test_a_stored_control_message_of_another_release_is_dropped_and_told(desk: Desk) -> None:
    desk.submit("r-1")
    desk.store.put(Table.CONTROL, "model_route:old", '{"kind": "model_route", "shape": "of old"}')
    desk.restart()
    (letter,) = letters(desk.tick())
    assert letter.source_topic == "control"
    assert desk.scheduler.depth(Lane.NORMAL) == 1


def test_ten_thousand_queued_are_back_within_seconds(desk: Desk) -> None:
    for number in range(10_000):
        desk.submit(f"r-{number}", ServiceClass.BATCH, tenant=f"t-{number % 20}")
    before = time.monotonic()
    restarted(desk)
    assert time.monotonic() - before < 20


def test_cleaning_waits_for_nothing_and_levels_are_told(desk: Desk) -> None:
    desk.submit("r-1")
    desk.now += 3
    assert desk.scheduler.oldest_wait_s(Lane.NORMAL, desk.now) == 3
    assert desk.scheduler.queued_s(Lane.NORMAL) == 1.0
    desk.hello()
    assert (desk.scheduler.in_flight(), desk.scheduler.live_workers(desk.now)) == (1, 1)
    assert desk.scheduler.oldest_wait_s(Lane.NORMAL, desk.now) == 0
