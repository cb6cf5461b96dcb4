from __future__ import annotations

import threading

import pytest

from include.contracts.dispatch import Revoke
from include.worker.leases import REMEMBERED, LeaseTable, Offer
from tests.support.leases import lease_of, render_task


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> LeaseTable:
    return LeaseTable(clock)


def lease_at(clock: Clock, *requests: str, lease_s: float = 30.0):
    tasks = [render_task(name) for name in requests or ("r-1",)]
    return lease_of(*tasks, lease_s=lease_s, expires_at=clock.now + lease_s)


def revoke(lease, *requests: str) -> Revoke:
    return Revoke(lease_id=lease.lease_id, worker_id="worker-0", pool="standard", request_ids=requests)


def test_leases_are_taken_in_order_and_known_until_finished(table: LeaseTable, clock: Clock) -> None:
    first, second = lease_at(clock), lease_at(clock)
    assert [table.offer(lease) for lease in (first, second, first)] == [Offer.ACCEPTED, Offer.ACCEPTED, Offer.HELD]
    assert table.wait() and table.waiting() == [first, second]
    assert table.start(first.lease_id) and not table.start(first.lease_id)
    assert table.waiting() == [second]
    assert table.held() == (first.lease_id, second.lease_id)
    table.finish(first.lease_id)
    assert table.held() == (second.lease_id,)
    assert table.offer(first) is Offer.ANSWERED


def test_only_a_report_that_arrived_renews(table: LeaseTable, clock: Clock) -> None:
    lease = lease_at(clock)
    table.offer(lease)
    clock.now += 29
    assert not table.expired(lease.lease_id)
    table.renew([lease.lease_id, "unknown"], sent_at=clock.now - 10)
    clock.now += 15
    assert not table.expired(lease.lease_id)
    clock.now += 6
    assert table.expired(lease.lease_id)
    table.renew([lease.lease_id], sent_at=1000.0)  # a late acknowledgement of an early report
    assert table.expired(lease.lease_id)


def test_a_report_made_after_its_end_does_not_revive_a_lease(table: LeaseTable, clock: Clock) -> None:
    lease = lease_at(clock)
    table.offer(lease)
    clock.now += 31
    table.renew([lease.lease_id], sent_at=clock.now)
    assert table.expired(lease.lease_id)


def test_a_waiting_lease_ends_with_its_last_request(table: LeaseTable, clock: Clock) -> None:
    lease = lease_at(clock, "r-1", "r-2")
    table.offer(lease)
    assert table.revoke(revoke(lease, "r-1"))
    assert table.held() == (lease.lease_id,)
    assert table.revoke(revoke(lease, "r-2"))
    assert table.held() == ()
    assert not table.revoke(revoke(lease))


def test_a_running_lease_is_told_what_was_revoked(table: LeaseTable, clock: Clock) -> None:
    lease = lease_at(clock, "r-1", "r-2")
    table.offer(lease)
    table.start(lease.lease_id)
    table.revoke(revoke(lease, "r-2"))
    assert table.revoked(lease.lease_id) == {"r-2"}
    table.revoke(revoke(lease))
    assert table.revoked(lease.lease_id) == {"r-1", "r-2"}


def test_closing_hands_back_what_waits_and_ends_the_renderer(table: LeaseTable, clock: Clock) -> None:
    running, waiting = lease_at(clock), lease_at(clock)
    table.offer(running)
    table.offer(waiting)
    table.start(running.lease_id)
    answers: list[bool] = []
    renderer = threading.Thread(target=lambda: answers.append(table.wait()))
    assert table.close() == (waiting.lease_id,)
    renderer.start()
    renderer.join(10)
    assert answers == [False] and not table.start(waiting.lease_id)
    assert table.held() == (running.lease_id,)
    assert table.offer(lease_at(clock)) is Offer.CLOSED


def test_a_renderer_that_waits_is_woken_by_an_offer(table: LeaseTable, clock: Clock) -> None:
    answers: list[bool] = []
    renderer = threading.Thread(target=lambda: answers.append(table.wait()))
    renderer.start()
    table.offer(lease_at(clock))
    renderer.join(10)
    assert answers == [True]


def test_the_memory_of_answers_is_bounded(table: LeaseTable, clock: Clock) -> None:
    leases = [lease_at(clock) for _ in range(REMEMBERED + 1)]
    for lease in leases:
        table.offer(lease)
        table.start(lease.lease_id)
        table.finish(lease.lease_id)
    assert table.offer(leases[-1]) is Offer.ANSWERED
    assert table.offer(leases[0]) is Offer.ACCEPTED
