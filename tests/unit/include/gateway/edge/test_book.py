from __future__ import annotations

import pytest

from include.contracts.dispatch import Lease, Revoke
from include.contracts.events import Progress
from include.contracts.workers import Credit, Hello, RenderProgress, Started
from include.gateway.edge.book import MAX_LEASES, MAX_REVOKES, LeaseBook
from tests.support.leases import lease_of, render_task

NOW = 1000.0


class Desk:
    """A book, and a hand that writes what the topics would say."""

    def __init__(self) -> None:
        self.now = NOW
        self.book = LeaseBook("edge", clock=lambda: self.now)
        self.offset = 0

    def lease(self, worker_id: str = "w-1", incarnation: str = "i-1", **values: object) -> Lease:
        content = {"pool": "edge", "issued_at": self.now, "expires_at": self.now + 30, "lease_s": 30.0, **values}
        lease = lease_of(render_task(), worker_id=worker_id, incarnation=incarnation, **content)
        self.note(lease)
        return lease

    def note(self, message: Lease | Revoke) -> None:
        self.book.note_dispatch("cluster", self.offset, message)
        self.offset += 1

    def report(self, kind: type, pool: str = "edge", incarnation: str = "i-1", **values: object) -> None:
        self.book.note_report(kind(worker_id="w-1", incarnation=incarnation, cell="cell-0", pool=pool, at=self.now, **values))

    def alive(self, worker_id: str = "w-1", incarnation: str = "i-1") -> list[str]:
        return [task.request_id for task in self.book.tasks(worker_id, incarnation)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def ids(*leases: Lease) -> list[str]:
    return [lease.tasks[0].request_id for lease in leases]


def test_a_worker_sees_its_own_incarnations_leases_only(desk: Desk) -> None:
    mine = desk.lease()
    desk.lease(worker_id="w-2")
    desk.lease(incarnation="i-0")
    assert desk.alive() == ids(mine)
    assert [message for message in desk.book.dispatches("w-1", "i-1", "")[0]] == [mine]
    assert desk.alive("nobody") == [] and desk.book.dispatches("nobody", "i-1", "")[0] == []


def test_the_cursor_hands_out_what_came_since(desk: Desk) -> None:
    first, second = desk.lease(), desk.lease()
    found, cursor = desk.book.dispatches("w-1", "i-1", "")
    assert found == [first, second]
    assert desk.book.dispatches("w-1", "i-1", cursor) == ([], cursor)
    third = desk.lease()
    assert desk.book.dispatches("w-1", "i-1", cursor)[0] == [third]


@pytest.mark.parametrize("cursor", ["", "another-cluster:7", "cluster:", "cluster:x", "7"])
def test_a_cursor_of_elsewhere_means_from_the_start(desk: Desk, cursor: str) -> None:
    lease = desk.lease()
    assert desk.book.dispatches("w-1", "i-1", cursor)[0] == [lease]


def test_a_broker_that_was_set_up_anew_begins_anew(desk: Desk) -> None:
    desk.lease()
    _, cursor = desk.book.dispatches("w-1", "i-1", "")
    fresh = lease_of(render_task(), worker_id="w-1", pool="edge", expires_at=NOW + 30)
    desk.book.note_dispatch("another", 0, fresh)
    assert desk.book.dispatches("w-1", "i-1", cursor)[0] == [fresh]


def test_a_lease_that_nothing_renews_is_over(desk: Desk) -> None:
    desk.lease()
    desk.now += 30.5
    assert desk.alive() == [] and desk.book.dispatches("w-1", "i-1", "")[0] == []


@pytest.mark.parametrize("kind", [Started, RenderProgress, Credit])
def test_its_workers_word_renews_it(desk: Desk, kind: type) -> None:
    lease = desk.lease()
    content: dict[type, dict[str, object]] = {
        Started: {"lease_id": lease.lease_id},
        RenderProgress: {"lease_id": lease.lease_id, "progress": Progress(step=1, steps=4)},
        Credit: {"held": (lease.lease_id,)},
    }
    desk.now += 20
    desk.report(kind, pool="standard", **content[kind])  # of another pool's worker with the same name: it says nothing here
    desk.now += 9
    desk.report(kind, **content[kind])
    desk.now += 29
    assert desk.alive() == ids(lease)
    desk.now += 2
    assert desk.alive() == []


def test_a_word_from_the_future_renews_from_now(desk: Desk) -> None:
    lease = desk.lease()
    desk.book.note_report(Started(worker_id="w-1", incarnation="i-1", cell="c", pool="edge", at=desk.now + 1e6, lease_id=lease.lease_id))
    desk.now += 31
    assert desk.alive() == []


def test_a_word_that_is_read_before_its_lease_counts(desk: Desk) -> None:
    lease = lease_of(render_task(), worker_id="w-1", pool="edge", expires_at=NOW - 5, lease_s=30.0)
    desk.report(Started, lease_id=lease.lease_id)
    desk.note(lease)
    assert desk.alive() == ids(lease)


def test_a_revoked_lease_is_over_and_can_not_be_renewed(desk: Desk) -> None:
    lease, other = desk.lease(), desk.lease()
    desk.note(Revoke(lease_id=lease.lease_id, worker_id="w-1", pool="edge"))
    desk.report(Credit, held=(lease.lease_id,))
    assert desk.alive() == ids(other)
    assert Revoke(lease_id=lease.lease_id, worker_id="w-1", pool="edge") in desk.book.dispatches("w-1", "i-1", "")[0]


def test_a_revoked_request_leaves_its_mates_lease(desk: Desk) -> None:
    lease = desk.lease()
    desk.note(Revoke(lease_id=lease.lease_id, worker_id="w-1", pool="edge", request_ids=("another",)))
    assert desk.alive() == ids(lease)


def test_a_new_incarnation_voids_the_leases_of_the_one_before(desk: Desk) -> None:
    desk.lease()
    desk.now += 1
    desk.report(Hello, incarnation="i-2")
    assert desk.alive() == []
    fresh = desk.lease(incarnation="i-2")
    assert desk.alive(incarnation="i-2") == ids(fresh)


def test_reading_everything_again_changes_nothing(desk: Desk) -> None:
    lease, revoked = desk.lease(), desk.lease()
    revoke = Revoke(lease_id=revoked.lease_id, worker_id="w-1", pool="edge")
    desk.note(revoke)
    before = desk.book.dispatches("w-1", "i-1", "")
    for offset, message in enumerate((lease, revoked, revoke)):
        desk.book.note_dispatch("cluster", offset, message)
    assert desk.book.dispatches("w-1", "i-1", "") == before
    assert desk.alive() == ids(lease)


def test_what_is_remembered_of_a_worker_is_bounded(desk: Desk) -> None:
    leases = [desk.lease() for _ in range(MAX_LEASES + 20)]
    for lease in leases + leases:
        desk.note(Revoke(lease_id=lease.lease_id, worker_id="w-1", pool="edge", request_ids=("x",)))
    assert desk.alive() == ids(*leases[-MAX_LEASES:])
    assert len(desk.book.dispatches("w-1", "i-1", "")[0]) == MAX_LEASES + MAX_REVOKES


def test_models_are_those_of_living_leases(desk: Desk) -> None:
    lease = desk.lease()
    assert desk.book.models("w-1", "i-1") == [lease.model]
    assert (desk.book.holder(lease.lease_id), desk.book.holder("other")) == ("w-1", None)
    assert (desk.book.lease("w-1", lease.lease_id), desk.book.lease("w-2", lease.lease_id)) == (lease, None)
