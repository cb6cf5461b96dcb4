from __future__ import annotations

import pytest

from include.scheduling.ids import CHUNK, IdWindow
from include.scheduling.store import MemoryStore, Table


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ids(store: MemoryStore) -> IdWindow:
    return IdWindow(store, window_s=100.0, max_ids=3)


def test_an_id_has_its_owner_until_the_window_is_over(ids: IdWindow, store: MemoryStore) -> None:
    ids.claim("r-1", "acme", 0.0)
    ids.clean(100.0, ())
    assert ids.owner("r-1") == "acme"
    ids.clean(100.1, ())
    assert ids.owner("r-1") is None and not list(store.items(Table.IDS))


def test_the_oldest_finished_go_first_when_there_are_too_many(ids: IdWindow) -> None:
    for number in range(5):
        ids.claim(f"r-{number}", "acme", float(number))
    ids.clean(5.0, {"r-0"})
    assert [ids.owner(f"r-{number}") for number in range(5)] == ["acme", None, None, "acme", "acme"]


def test_what_is_open_is_kept_beyond_every_bound(ids: IdWindow) -> None:
    names = {f"r-{number}" for number in range(10)}
    for name in names:
        ids.claim(name, "acme", 0.0)
    ids.clean(1e9, names)
    assert len(ids) == 10


def test_it_is_rebuilt_in_order_of_age(ids: IdWindow, store: MemoryStore) -> None:
    for name, at in (("late", 3.0), ("early", 1.0)):
        ids.claim(name, "acme", at)
    again = IdWindow(store, window_s=100.0, max_ids=1)
    again.restore()
    again.clean(4.0, ())
    assert (again.owner("early"), again.owner("late")) == (None, "acme")


def restored(store: MemoryStore) -> IdWindow:
    again = IdWindow(store, window_s=100.0, max_ids=1000)
    again.restore()
    return again


def test_many_ids_share_a_row_that_goes_with_the_last_of_them(store: MemoryStore) -> None:
    ids = IdWindow(store, window_s=100.0, max_ids=1000)
    for number in range(3 * CHUNK):
        ids.claim(f"r-{number}", "acme", float(number))
    assert len(list(store.items(Table.IDS))) == 3
    ids.clean(100.0 + CHUNK, ())
    assert len(list(store.items(Table.IDS))) == 2
    again = restored(store)
    assert [again.owner(f"r-{number}") for number in (0, CHUNK - 1, CHUNK, 3 * CHUNK - 1)] == [None, None, "acme", "acme"]


def test_a_restored_window_goes_on_where_it_was(store: MemoryStore) -> None:
    ids = IdWindow(store, window_s=100.0, max_ids=1000)
    for number in range(CHUNK + 5):
        ids.claim(f"r-{number}", "acme", 1.0)
    again = restored(store)
    for number in range(CHUNK + 5, 2 * CHUNK + 1):
        again.claim(f"r-{number}", "other", 2.0)
    assert len(list(store.items(Table.IDS))) == 3
    third = restored(store)
    assert [third.owner(f"r-{number}") for number in (0, CHUNK, CHUNK + 5, 2 * CHUNK)] == ["acme", "acme", "other", "other"]


def test_an_id_that_was_released_is_free_after_a_restore_and_its_neighbours_are_not(store: MemoryStore) -> None:
    ids = IdWindow(store, window_s=100.0, max_ids=1000)
    for number in range(2 * CHUNK):
        ids.claim(f"r-{number}", "acme", 1.0)
    for name in ("r-3", f"r-{2 * CHUNK - 1}", "never-seen"):
        ids.release(name)
    ids.claim("late", "acme", 2.0)
    again = restored(store)
    assert [again.owner(name) for name in ("r-2", "r-3", "r-4", f"r-{2 * CHUNK - 1}", "late")] == ["acme", None, "acme", None, "acme"]


def test_an_id_that_was_forgotten_and_accepted_again_is_the_later_one_s(store: MemoryStore) -> None:
    ids = IdWindow(store, window_s=100.0, max_ids=2)
    for number in range(3):
        ids.claim(f"r-{number}", "acme", float(number))
    ids.clean(3.0, ())
    for number in range(CHUNK):
        ids.claim(f"s-{number}", "acme", 4.0)
    ids.claim("r-0", "other", 5.0)
    assert restored(store).owner("r-0") == "other"


def test_rows_of_one_id_each_are_taken_over(store: MemoryStore) -> None:
    for number in range(CHUNK + 1):
        store.put(Table.IDS, f"r-{number}", f"acme\t{float(number)!r}")
    ids = restored(store)
    assert ids.owner("r-0") == "acme" and len(ids) == CHUNK + 1
    assert sorted(key for key, _ in store.items(Table.IDS)) == ["#0", "#1"]
    assert len(restored(store)) == CHUNK + 1


def test_a_row_that_was_emptied_is_not_written_again(store: MemoryStore) -> None:
    ids = IdWindow(store, window_s=100.0, max_ids=1000)
    ids.claim("gone", "acme", 1.0)
    ids.release("gone")
    ids.claim("here", "acme", 2.0)
    again = restored(store)
    assert (again.owner("gone"), again.owner("here")) == (None, "acme")
