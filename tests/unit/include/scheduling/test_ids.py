from __future__ import annotations

import pytest

from include.scheduling.ids import IdWindow
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
