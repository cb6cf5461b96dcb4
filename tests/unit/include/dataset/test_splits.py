from __future__ import annotations

from typing import Any

import pytest

from include.dataset.config import DatasetConfig
from include.dataset.duplicates import drop_near_duplicates, group_near_duplicates, merge_duplicates
from include.dataset.splits import LeakError, assign_splits, check_leaks

CONFIG = DatasetConfig(validation=0.5)


def row(key: str, place: int = 0xFF, **more: Any) -> dict[str, Any]:
    return {"key": key, "sha256": f"{place:02x}" + "0" * 62, "source": key, "captions": [key], "group": key, **more}


def test_a_group_is_trained_on_as_soon_as_one_of_it_would_be() -> None:
    rows = [row("a", 0x00), row("b", 0xF0), row("c", 0x01)]
    group_near_duplicates(rows, [(0, 1)])
    assign_splits(rows, CONFIG)
    assert [(entry["group"], entry["split"]) for entry in rows] == [("a", "train"), ("a", "train"), ("c", "validation")]


def test_groups_join_through_what_they_share() -> None:
    rows = [row(key) for key in "abcde"]
    group_near_duplicates(rows, [(1, 3), (3, 4), (0, 4)])
    assert [entry["group"] for entry in rows] == ["a", "a", "c", "a", "a"]


def test_a_leak_stops_the_version_and_names_the_samples() -> None:
    rows = [row("a", split="train"), row("b", split="validation"), row("c", split="train")]
    check_leaks(rows, [("a", "c"), ("a", "dropped")])
    with pytest.raises(LeakError, match="1 near copies cross the split, such as a and b; nothing was published"):
        check_leaks(rows, [("a", "b"), ("a", "c")])


def test_of_near_copies_the_first_stays_and_chains_are_not_followed() -> None:
    rows = [row(key) for key in "abc"]
    rejects = drop_near_duplicates(rows, [(0, 1), (1, 2)])
    assert [(reject["key"], reject["reason"]) for reject in rejects] == [("b", "is a near copy of a")]


def test_exact_copies_leave_their_captions() -> None:
    rows = [row("a"), row("b")]
    assert [reject["key"] for reject in merge_duplicates(rows)] == ["b"]
    assert rows[0]["captions"] == ["a", "b"]
