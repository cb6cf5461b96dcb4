"""The story of a request, told from its events."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from include.client.operator_views import headline, kinship, steps_table
from include.client.reader import Record
from include.client.why import History, explain, near_ids, origin_of, to_dict
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import State
from tests.unit.include.client.stories import (
    DISPATCH,
    FULL,
    LOST,
    completed,
    dispatched,
    event,
    letter,
    progress,
    queued,
    text,
    titles,
)


def test_the_whole_life_of_a_request() -> None:
    told = explain([queued(position=12), dispatched(1.0), progress(1.5, 2), progress(2.0, 8), completed(2.25)])
    assert titles(told) == ["Queued", "Dispatched", "Rendering", "Completed"]
    assert [step.at_s for step in told.steps] == [0.0, 1.0, 2.0, 2.25]
    assert (told.request_id, told.tenant, told.state, told.over, told.took_s) == ("r1", "acme", State.COMPLETED, True, 2.25)
    for words in (
        "realtime request of tier pro → high lane",
        "place 12 in its lane",
        "predicted 0.50 device seconds",
        "attempt 1, to worker-0 of pool standard (idle, warm), lease-1",
        "emoji version 3",
        "micro-batch of 4; no larger because: max_batch",
        "shared with the tenant's own r0 and 2 of other tenants",
        "batch key emoji/3|32x32|4|cfg",
        "step 8 of 8 on worker-0",
        "waited 1.00 s; rendered in 1.25 s; 8 steps with torch-eager on cpu",
        "0.60 device seconds, 20 % more than predicted (0.50)",
        "image 0: images/acme/r1/0.png, 32x32, seed 7",
    ):
        assert words in text(told)


def test_a_refused_id_that_was_sent_again_goes_on() -> None:
    told = explain([event(State.REFUSED, reason=FULL), queued(20.0), completed(22.0)])
    assert titles(told) == ["Refused", "Queued", "Completed"]
    assert told.state is State.COMPLETED


def test_repeats_are_dropped_and_order_within_one_moment_stays() -> None:
    events = [queued(), dispatched(0.0), completed(0.0)]
    assert titles(explain([*events, *events])) == ["Queued", "Dispatched", "Completed"]


def test_a_dead_letter_names_the_command_and_does_not_repeat_the_reason() -> None:
    told = explain([queued(), event(State.FAILED, 5.0, reason=LOST)], [letter(LOST, 5.0)])
    assert titles(told) == ["Queued", "Failed", "Dead letter"]
    assert told.steps[-1].lines == ("kept in dead-letters with its original bytes; to send it again: atelier redrive --id r1",)
    assert (told.state, told.took_s, told.dead_letters) == (State.FAILED, 5.0, 1)


def test_a_letter_about_the_id_tells_its_own_reason_and_needs_a_new_id() -> None:
    reason = Reason(code=ReasonCode.DUPLICATE_ID, message="request_id was sent before")
    told = explain([queued(), completed(2.0)], [letter(reason, 3.0)])
    assert told.steps[-1].lines[0] == "duplicate_id: request_id was sent before"
    assert told.steps[-1].lines[1].endswith("atelier redrive --id r1 --new-id")
    assert (told.state, told.took_s) == (State.COMPLETED, 2.0)


def test_a_letter_without_an_event_is_an_explanation() -> None:
    told = explain([], [letter(FULL)])
    assert (told.request_id, told.state, told.over) == ("r1", None, False)
    assert "overloaded: the high lane is full" in text(told)


def test_nothing_is_no_explanation() -> None:
    with pytest.raises(ValueError, match="neither an event nor a dead letter"):
        explain([])


def test_kin_are_named() -> None:
    family = {"r1", "r1-r1", "r1-r2"}
    assert kinship(explain([queued()], family=family)) == ["redriven as r1-r1, r1-r2"]
    assert kinship(explain([queued(name="r1-r1")], family=family)) == ["redriven from r1"]
    assert kinship(explain([queued(name="r1-r1")], family={"r1-r1"})) == []


@pytest.mark.parametrize(
    ("name", "origin"), [("a", "a"), ("a-r1", "a"), ("a-r12", "a"), ("a-r0", "a-r0"), ("a-r", "a-r"), ("a-r1-r2", "a-r1"), ("-r1", "-r1")]
)
def test_origins(name: str, origin: str) -> None:
    assert origin_of(name) == origin


def test_near_ids() -> None:
    known = ["order-17", "order-18", "Order-1", "invoice-1", "order-1x"]
    assert near_ids("order-1", known, 3)[0] == "Order-1"
    assert set(near_ids("order-1", known)) == {"Order-1", "order-17", "order-18", "order-1x"}
    assert near_ids("zzz", known) == []


def test_json_has_the_words_and_the_facts() -> None:
    told = json.loads(json.dumps(to_dict(explain([queued(), dispatched(1.0), completed(2.0)], family={"r1", "r1-r1"}))))
    assert (told["request_id"], told["state"], told["redriven_as"]) == ("r1", "Completed", ["r1-r1"])
    assert [step["title"] for step in told["steps"]] == ["Queued", "Dispatched", "Completed"]
    assert told["steps"][1]["trace"] == DISPATCH
    assert "event_id" not in told["steps"][0]


def test_the_table_shows_every_line_once_and_takes_brackets_as_text() -> None:
    told = explain([queued(trace={"odd": "[bold]x[/bold]"}), dispatched(1.0), completed(2.0)])
    console = Console(width=200, record=True, file=None, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(steps_table(told.steps))
    shown = captured.get()
    assert all(shown.count(line) == 1 for step in told.steps for line in step.lines)
    assert headline(told) == "r1 of acme: Completed after 2.00 s; came 2026-09-21 14:13:20 UTC"


def record(value: bytes, offset: int = 0) -> Record:
    return Record(value=value, partition=0, offset=offset)


def test_history_keeps_its_own_events_its_family_and_what_is_near() -> None:
    history = History(request_id="order-1")
    names = ("order-1", "order-1-r1", "order-12", "Order-1", "other")
    taken = [history.take_event(record(queued(name=name).to_json())) for name in names]
    assert taken == [True, False, False, False, False]
    assert [event.request_id for event in history.events] == ["order-1"]
    assert history.family == {"order-1", "order-1-r1"}
    assert {"order-12", "Order-1"} <= history.near and "other" not in history.near


def test_history_skips_what_is_no_event() -> None:
    history = History(request_id="r1")
    for value in (b"", b"\xff", b'{"request_id":"r1"}', b'{"kind":"shares"}'):
        assert not history.take_event(record(value))
    assert not history


def test_history_takes_the_letters_of_its_id() -> None:
    history = History(request_id="r1")
    for one in (letter(FULL), letter(FULL, request_id="r2"), letter(FULL, request_id=None)):
        history.take_letter(record(one.to_json()))
    history.take_letter(record(b'{"request_id":"r1"}'))
    assert [found.request_id for found in history.letters] == ["r1"]


def test_history_is_over_with_its_terminal_event_or_where_there_are_letters_alone() -> None:
    history = History(request_id="r1")
    ends = [history.over]
    history.take_letter(record(letter(FULL).to_json()))
    ends.append(history.over)
    for one in (queued(), completed(1.0)):
        history.take_event(record(one.to_json()))
        ends.append(history.over)
    assert ends == [False, True, False, True]
