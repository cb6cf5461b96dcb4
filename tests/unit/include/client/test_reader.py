from __future__ import annotations

import logging

import pytest

from include.client.reader import RecentIds, Record, parse_event
from include.contracts.events import State, StatusEvent


def test_recent_ids_recognise_repeats() -> None:
    ids = RecentIds()
    assert ids.add("a")
    assert not ids.add("a")


def test_recent_ids_forget_the_oldest_only() -> None:
    ids = RecentIds(limit=2)
    for identifier in ("a", "b", "c"):
        ids.add(identifier)
    assert not ids.add("b")
    assert not ids.add("c")
    assert ids.add("a")


def test_an_event_is_parsed() -> None:
    event = StatusEvent(event_id="r:Queued:0:0", request_id="r", tenant="acme", state=State.QUEUED, at=1.0)
    assert parse_event(Record(value=event.to_json(), partition=0, offset=0)) == event


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"{}", b'{"schema_version": 2}'])
def test_what_is_no_event_is_reported_and_skipped(value: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert parse_event(Record(value=value, partition=0, offset=7)) is None
    assert "events[0]@7" in caplog.text
