from __future__ import annotations

import pytest

from include.contracts.dispatch import Lease
from include.contracts.errors import ReasonCode
from include.contracts.events import State
from include.contracts.objects import preview_key
from include.contracts.workers import Hello
from include.scheduling.store import Table
from include.scheduling.tuning import Tuning
from tests.unit.include.scheduling.harness import CELL, LEASE_S, MAX_ATTEMPTS, Desk, events, images_of, leases, letters, request, revokes


@pytest.fixture
def lease(desk: Desk) -> Lease:
    """Request r-1 leased to the only worker, w-0."""
    desk.hello()
    desk.submit("r-1")
    return desk.leased("r-1")


def test_a_request_is_queued_processed_and_completed_once(desk: Desk, lease: Lease) -> None:
    desk.started(lease)
    desk.now += 2
    desk.complete(lease)
    assert desk.states("r-1") == [State.QUEUED, State.PROCESSING, State.COMPLETED]
    done = desk.last("r-1")
    assert (done.worker_id, done.model_version, len(done.images), done.waited_s) == ("w-0", "1", 1, 0.0)
    assert not desk.scheduler.busy and not desk.scheduler.leases()


def test_a_repeated_completion_changes_nothing(desk: Desk, lease: Lease) -> None:
    desk.complete(lease)
    assert desk.complete(lease) == []
    assert desk.scheduler.stats.fenced == 1


def test_progress_is_told_at_most_twice_a_second(desk: Desk, lease: Lease) -> None:
    for step in range(20):
        desk.now += 0.1
        desk.progress(lease, step)
    told = [event for event in events(desk.decisions) if event.progress is not None]
    assert 2 <= len(told) <= 4
    assert len({event.event_id for event in told}) == len(told)


def test_each_request_of_a_micro_batch_is_told_of_its_own_previews_only(desk: Desk) -> None:
    for name in ("r-1", "r-2"):
        desk.submit(name)
    desk.hello(max_batch=4)
    lease = desk.leased("r-1")
    assert len(lease.tasks) == 2
    desk.now += 1
    keys = tuple(preview_key("acme", name) for name in ("r-1", "r-2"))
    desk.progress(lease, 2, previews=keys)
    told = {event.request_id: event.progress.previews for event in events(desk.decisions) if event.progress is not None}
    assert told == {"r-1": keys[:1], "r-2": keys[1:]}


def test_a_completion_of_another_number_of_images_is_refused_and_tried_again(desk: Desk, lease: Lease) -> None:
    decided = desk.complete(lease, images=2 * images_of(lease.tasks[0]))
    assert letters(decided)[0].source_topic == "workers"
    assert letters(decided)[0].reason.field == "images"
    assert desk.last("r-1").state is State.RETRYING


def test_a_completion_under_a_foreign_key_is_refused(desk: Desk, lease: Lease) -> None:
    (image,) = images_of(lease.tasks[0])
    stolen = image.model_copy(update={"key": "images/other/r-9/0.png"})
    decided = desk.complete(lease, images=(stolen,))
    assert letters(decided)[0].reason.field == "images"
    assert State.COMPLETED not in desk.states("r-1")


class TestAttempts:
    def test_a_failure_is_tried_again_after_a_backoff(self, desk: Desk, lease: Lease) -> None:
        desk.fail(lease)
        desk.credit()
        assert desk.states("r-1")[-1] is State.RETRYING
        desk.live(2, "w-0")
        assert desk.states("r-1") == [State.QUEUED, State.PROCESSING, State.RETRYING, State.QUEUED, State.PROCESSING]
        again = desk.leased("r-1")
        assert again.lease_id != lease.lease_id and again.attempt == 2
        assert again.tasks == lease.tasks

    def test_backoffs_double_and_vary(self, desk: Desk) -> None:
        desk.hello(slots=64)
        for number in range(10):
            desk.submit(f"r-{number}")
        waits: dict[int, set[float]] = {1: set(), 2: set()}
        for failures in waits:
            for number in range(10):
                desk.fail(desk.leased(f"r-{number}"))
                waits[failures].add(desk.last(f"r-{number}").trace["backoff_s"])
            desk.tick(2)
            desk.credit(slots=64)
        assert all(0.375 <= wait <= 0.625 for wait in waits[1]) and len(waits[1]) > 5
        assert all(0.75 <= wait <= 1.25 for wait in waits[2])

    def test_after_the_last_attempt_it_fails_into_dead_letters(self, desk: Desk, lease: Lease) -> None:
        for _ in range(MAX_ATTEMPTS):
            desk.fail(desk.leased("r-1"))
            desk.live(3, "w-0")
        assert desk.ends("r-1") == [State.FAILED]
        (letter,) = letters(desk.decisions)
        assert letter.original_bytes() == request("r-1").to_json()
        assert (letter.attempts, letter.reason.code) == (MAX_ATTEMPTS, ReasonCode.RENDER_FAILED)
        assert len(leases(desk.decisions)) == MAX_ATTEMPTS

    def test_a_failure_that_cannot_be_mended_fails_at_once(self, desk: Desk, lease: Lease) -> None:
        desk.fail(lease, retryable=False)
        assert desk.ends("r-1") == [State.FAILED]
        assert len(letters(desk.decisions)) == 1

    def test_a_retry_goes_to_another_worker_where_there_is_one(self, desk: Desk, lease: Lease) -> None:
        desk.hello("w-1")
        desk.fail(lease)
        desk.live(2, "w-0", "w-1")
        assert desk.leased("r-1").worker_id == "w-1"

    def test_one_bad_request_of_a_micro_batch_fails_alone(self, desk: Desk) -> None:
        for number in range(4):
            desk.submit(f"r-{number}")
        desk.hello(max_batch=4)
        lease = desk.leased("r-0")
        desk.fail(lease, "r-2", retryable=False)
        for name in ("r-0", "r-1", "r-3"):
            desk.complete(lease, name)
        assert [desk.ends(f"r-{number}")[0] for number in range(4)].count(State.COMPLETED) == 3
        assert not desk.scheduler.leases()

    def test_the_last_attempt_renders_alone(self, desk: Desk) -> None:
        for number in range(4):
            desk.submit(f"r-{number}")
        sizes = []
        for _ in range(MAX_ATTEMPTS):
            given = leases(desk.hello(max_batch=4, slots=8))
            sizes.append([len(lease.tasks) for lease in given])
            desk.credit(max_batch=4, slots=0)
            for lease in given:
                desk.fail(lease)
            desk.tick(5)
        assert sizes == [[4], [4], [1, 1, 1, 1]]


class TestLeases:
    def test_an_expired_lease_is_revoked_and_its_request_tried_again(self, desk: Desk, lease: Lease) -> None:
        decided = desk.tick(LEASE_S)
        assert revokes(decided)[0].lease_id == lease.lease_id
        assert desk.last("r-1").reason.code is ReasonCode.LEASE_EXPIRED

    def test_progress_renews_it(self, desk: Desk, lease: Lease) -> None:
        for step in range(1, 4):
            desk.now += LEASE_S - 1
            desk.progress(lease, step)
            desk.tick()
        assert State.RETRYING not in desk.states("r-1")

    def test_heartbeats_do_not_renew_one_that_started_and_stands_still(self, desk: Desk, lease: Lease) -> None:
        desk.started(lease)
        desk.live(LEASE_S + 1, "w-0")
        assert State.RETRYING in desk.states("r-1")

    def test_heartbeats_renew_one_that_waits_behind_another(self, desk: Desk, lease: Lease) -> None:
        desk.live(3 * LEASE_S, "w-0")
        assert State.RETRYING not in desk.states("r-1")

    def test_but_not_for_ever(self, desk: Desk, lease: Lease) -> None:
        desk.live(22 * LEASE_S, "w-0")
        assert State.RETRYING in desk.states("r-1")

    def test_one_that_never_reached_its_worker_is_taken_back(self, desk: Desk, lease: Lease) -> None:
        desk.tick(4.0)
        desk.credit(held=())
        assert State.RETRYING not in desk.states("r-1")
        for _ in range(2):
            desk.tick(1.0)
            desk.credit(held=())
        assert desk.states("r-1")[:3] == [State.QUEUED, State.PROCESSING, State.RETRYING]
        reason = next(event.reason for event in events(desk.decisions) if event.state is State.RETRYING)
        assert reason.code is ReasonCode.WORKER_LOST

    def test_a_heartbeat_that_crossed_the_dispatch_takes_nothing_back(self, desk: Desk, lease: Lease) -> None:
        desk.credit(held=())
        desk.tick(1.0)
        desk.credit(held=())
        assert list(desk.scheduler.leases()) == [lease.lease_id]

    def test_a_lease_that_nobody_gave_is_revoked_once_and_takes_its_place(self, desk: Desk) -> None:
        desk.hello()
        decided = desk.credit(held=("lease-of-old",))
        assert [revoke.lease_id for revoke in revokes(decided)] == ["lease-of-old"]
        desk.submit("r-1")
        assert not leases(desk.decisions)
        assert not revokes(desk.credit(held=("lease-of-old",)))
        desk.credit(held=())
        assert len(leases(desk.decisions)) == 1


class TestFencing:
    def test_a_result_that_comes_late_counts_while_nobody_else_renders(self, desk: Desk, lease: Lease) -> None:
        desk.tick(LEASE_S)
        assert desk.last("r-1").state is State.RETRYING
        desk.complete(lease)
        desk.tick(60)
        assert desk.ends("r-1") == [State.COMPLETED]

    def test_it_no_longer_counts_once_another_lease_runs(self, desk: Desk, lease: Lease) -> None:
        desk.hello("w-1")
        desk.tick(LEASE_S)
        desk.live(2, "w-1")
        assert desk.leased("r-1").worker_id == "w-1"
        desk.complete(lease)
        assert desk.ends("r-1") == []
        desk.complete(desk.leased("r-1"))
        assert desk.ends("r-1") == [State.COMPLETED]

    def test_a_late_failure_never_counts(self, desk: Desk, lease: Lease) -> None:
        desk.tick(LEASE_S)
        desk.fail(lease, retryable=False)
        assert desk.ends("r-1") == []

    def test_a_failure_of_an_older_incarnation_never_counts(self, desk: Desk, lease: Lease) -> None:
        desk.fail(lease.model_copy(update={"incarnation": "i-0"}), retryable=False)
        assert desk.ends("r-1") == []


class TestIncarnations:
    def test_a_new_one_voids_the_leases_of_the_old_at_once(self, desk: Desk, lease: Lease) -> None:
        desk.hello(incarnation="i-2")
        assert desk.last("r-1").state is State.RETRYING
        desk.tick(1)
        desk.credit(incarnation="i-2")
        assert desk.leased("r-1").incarnation == "i-2"

    def test_the_old_ones_heartbeat_is_ignored(self, desk: Desk) -> None:
        desk.hello(incarnation="i-1")
        desk.hello(incarnation="i-2", slots=1)
        desk.credit(incarnation="i-1", slots=8)
        worker = desk.scheduler.worker("w-0")
        assert worker is not None and (worker.incarnation, worker.slots) == ("i-2", 1)

    def test_a_heartbeat_of_a_new_one_counts_once_the_known_one_is_silent(self, desk: Desk) -> None:
        desk.hello(incarnation="i-1")
        desk.now += 4
        desk.credit(incarnation="i-2")
        worker = desk.scheduler.worker("w-0")
        assert worker is not None and worker.incarnation == "i-2"

    def test_goodbye_hands_back_without_counting_the_attempt(self, desk: Desk, lease: Lease) -> None:
        desk.goodbye()
        assert desk.states("r-1") == [State.QUEUED, State.PROCESSING, State.RETRYING, State.QUEUED]
        (entry,) = desk.scheduler.entries().values()
        assert (entry.failures, entry.dispatches) == (0, 1)

    def test_however_often_workers_are_drained_the_request_lives_on(self, desk: Desk) -> None:
        desk.submit("r-1")
        for number in range(2 * MAX_ATTEMPTS):
            desk.hello(f"w-{number}")
            desk.goodbye(f"w-{number}")
        desk.hello("last")
        desk.complete(desk.leased("r-1"))
        assert desk.ends("r-1") == [State.COMPLETED]

    def test_nothing_is_given_to_a_drained_worker(self, desk: Desk, lease: Lease) -> None:
        desk.goodbye()
        desk.submit("r-2")
        assert len(leases(desk.decisions)) == 1


class TestSilence:
    def test_a_silent_worker_gets_nothing_until_it_is_heard(self, desk: Desk) -> None:
        desk.hello()
        desk.now += 3.1
        desk.submit("r-1")
        assert not leases(desk.decisions)
        desk.credit()
        assert len(leases(desk.decisions)) == 1

    def test_a_worker_that_vanishes_loses_its_lease_to_another(self, desk: Desk, lease: Lease) -> None:
        desk.hello("w-1")
        desk.live(LEASE_S + 2, "w-1")
        desk.complete(desk.leased("r-1"))
        assert desk.last("r-1").worker_id == "w-1"

    def test_one_that_holds_nothing_is_forgotten_in_the_end(self, desk: Desk) -> None:
        desk.hello()
        desk.hello("w-1")
        desk.live(3700, "w-1")
        assert desk.scheduler.worker("w-0") is None
        assert [name for name, _ in desk.store.items(Table.WORKERS)] == ["w-1"]


def test_another_cells_worker_is_not_ours(desk: Desk) -> None:
    desk.worker(Hello(worker_id="w-9", incarnation="i", cell="elsewhere", pool="standard", at=desk.now))
    assert desk.scheduler.worker("w-9") is None


def test_a_pool_that_the_cell_does_not_have_is_a_dead_letter(desk: Desk) -> None:
    decided = desk.worker(Hello(worker_id="w-9", incarnation="i", cell=CELL, pool="moon", at=desk.now))
    assert letters(decided)[0].reason.field == "pool"
    assert "standard" in letters(decided)[0].reason.message


def test_alarms_of_one_tick_may_concern_the_same_request() -> None:
    desk = Desk(tuning=Tuning(retry_base_s=0.1))
    desk.hello()
    desk.submit("r-1", deadline_at=desk.now + LEASE_S + 10)
    for _ in range(MAX_ATTEMPTS - 1):
        desk.fail(desk.leased("r-1"))
        desk.tick(1)
        desk.credit()
    desk.tick(LEASE_S + 20)
    assert desk.ends("r-1") == [State.FAILED]


def test_images_that_are_not_told_in_their_order_are_no_result(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1", images=2)
    lease = desk.leased("r-1")
    first, second = images_of(lease.tasks[0])
    desk.complete(lease, images=(first, second.model_copy(update={"index": 0})))
    assert "images.1.index: must be 1" in letters(desk.decisions)[0].reason.message
    assert desk.states("r-1")[-1] is State.RETRYING


def test_a_clock_that_is_set_back_stops_nobody(desk: Desk) -> None:
    """What was queued before has then waited less than nothing, which no estimate is to be learned from."""
    desk.submit("r-1")
    desk.now -= 3600.0
    desk.hello()
    desk.complete(desk.leased("r-1"))
    done = desk.last("r-1")
    assert (done.state, done.waited_s) == (State.COMPLETED, 0.0)
