"""Which dead letters go back, under which id, and that each goes once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.client.dead_letters import (
    ID_WINDOW_S,
    Action,
    Found,
    IdUse,
    Letters,
    Planner,
    Redrive,
    Selection,
    renamed,
    since_seconds,
)
from include.client.reader import Record
from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import State, StatusEvent, event_id
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest
from include.scheduling.tuning import Tuning

NOW = 1_790_000_000.0


def request(name: str = "r1", **fields: Any) -> bytes:
    """Spelt as no serializer would, so that "byte for byte" means something."""
    return json.dumps({"request_id": name, "tenant": "acme", "prompt": "ein rotes Herz ♥", **fields}, indent=1).encode()


def letter(name: str | None = "r1", code: ReasonCode = ReasonCode.OVERLOADED, *, at: float = NOW - 60, **fields: Any) -> DeadLetter:
    known = {"source_topic": "requests.realtime", "tenant": "acme", "original": encode_original(request(name or "r1"))}
    return DeadLetter(at=at, reason=Reason(code=code, message="why"), request_id=name, **{**known, **fields})


def failed(name: str = "r1", **fields: Any) -> DeadLetter:
    return letter(name, ReasonCode.RENDER_FAILED, **{"attempts": 3, **fields})


def found(*letters: DeadLetter, selection: Selection | None = None) -> list[Found]:
    taken = Letters(selection=selection or Selection())
    for offset, one in enumerate(letters):
        taken.take(Record(value=one.to_json(), partition=0, offset=offset))
    return taken.all()


def use(state: State = State.FAILED, accepted_at: float | None = NOW - 90, tenant: str = "acme") -> IdUse:
    return IdUse(tenant=tenant, state=state, accepted_at=accepted_at)


def plan(*letters: DeadLetter, uses: dict[str, IdUse] | None = None, sent: dict[str, str] | None = None, **options: bool) -> list[Redrive]:
    return Planner(uses or {}, sent or {}, now=NOW, **options).plan(found(*letters))


def only(*letters: DeadLetter, **options: Any) -> Redrive:
    (one,) = plan(*letters, **options)
    return one


def test_the_window_is_the_routers() -> None:
    assert Tuning().id_window_s == ID_WINDOW_S


def test_a_refused_request_goes_back_byte_for_byte() -> None:
    one = only(letter(), uses={"r1": use(State.REFUSED, None)})
    assert (one.action, one.request_id, one.renamed, one.value) == (Action.SEND, "r1", False, request())


def test_a_failed_request_gets_a_new_id_and_is_traced_to_the_old() -> None:
    one = only(failed(), uses={"r1": use()})
    sent = json.loads(one.value)
    assert (one.action, one.request_id, one.renamed) == (Action.SEND, "r1-r1", True)
    assert sent == {**json.loads(request()), "request_id": "r1-r1", "trace_id": "r1"}
    assert "24 h" in one.note


def test_a_failed_request_keeps_its_trace() -> None:
    one = only(failed(original=encode_original(request(trace_id="t9"))), uses={"r1": use()})
    assert json.loads(one.value)["trace_id"] == "t9"


def test_a_failed_request_whose_events_are_gone_gets_a_new_id_while_the_window_lasts() -> None:
    assert only(failed()).request_id == "r1-r1"
    assert only(failed(at=NOW - ID_WINDOW_S - 1)).request_id == "r1"


def test_after_the_window_a_failed_id_is_free_again() -> None:
    one = only(failed(at=NOW - ID_WINDOW_S), uses={"r1": use(accepted_at=NOW - ID_WINDOW_S - 5)})
    assert (one.request_id, one.value) == ("r1", request())


def test_what_failed_again_is_counted_on() -> None:
    uses = {"r1": use(), "r1-r1": use(accepted_at=NOW - 80)}
    assert only(failed("r1-r1"), uses=uses).request_id == "r1-r2"


def test_numbers_are_not_given_twice() -> None:
    assert only(failed(), uses={"r1": use()}, sent={"other": "r1-r4"}).request_id == "r1-r5"


def test_new_ids_can_be_asked_for() -> None:
    assert only(letter(), new_ids=True).request_id == "r1-r1"


def test_a_long_id_stays_within_the_contract() -> None:
    name = "x" * 127
    one = only(failed(name), uses={name: use()})
    assert one.request_id is not None
    assert GenerationRequest.from_json(one.value).request_id == one.request_id != name


def test_what_was_sent_before_is_not_sent_again_unless_asked_for() -> None:
    key = found(letter())[0].key
    assert only(letter(), sent={key: "r1"}).action is Action.NOTHING
    assert only(letter(), sent={key: "r1"}, again=True).action is Action.SEND


def test_a_refused_id_that_was_accepted_since_goes_on_by_itself() -> None:
    one = only(letter(at=NOW - 60), uses={"r1": use(State.PROCESSING, NOW - 30)})
    assert (one.action, one.note) == (Action.NOTHING, "it was sent again since and is Processing")


def test_a_redrive_of_another_machine_is_seen_in_the_events() -> None:
    uses = {"r1": use(), "r1-r1": use(State.COMPLETED, NOW - 30)}
    one = only(failed(), uses=uses)
    assert one.action is Action.NOTHING and "redriven since as r1-r1, which is Completed" in one.note
    assert only(failed(), uses=uses, again=True).request_id == "r1-r2"


def test_only_the_newest_letter_of_a_request_counts() -> None:
    older, newer = plan(letter(at=NOW - 60), failed(at=NOW - 30), uses={"r1": use(accepted_at=NOW - 40)})
    assert (older.action, newer.action) == (Action.NOTHING, Action.SEND)


def test_the_newest_counts_even_where_it_was_not_asked_for() -> None:
    (one,) = found(letter(at=NOW - 60), failed(at=NOW - 30), selection=Selection(reason=ReasonCode.OVERLOADED))
    assert not one.newest


def test_a_repeat_of_an_id_does_not_hide_the_letter_of_its_request() -> None:
    first, repeat = plan(failed(at=NOW - 60), letter(code=ReasonCode.DUPLICATE_ID, at=NOW - 30), uses={"r1": use()})
    assert (first.action, first.request_id) == (Action.SEND, "r1-r1")
    assert repeat.action is Action.NOTHING and "--new-id" in repeat.note


def test_letters_of_two_requests_in_one_run_get_different_ids() -> None:
    uses = {"r1": use()}
    ids = [one.request_id for one in plan(failed(), letter(code=ReasonCode.DUPLICATE_ID), uses=uses, new_ids=True)]
    assert ids == ["r1-r1", "r1-r2"]


@pytest.mark.parametrize("uses", [{}, {"r1": use(State.COMPLETED, NOW - 90, "globex")}])
def test_an_id_of_another_tenants_gets_a_new_one(uses: dict[str, IdUse]) -> None:
    one = only(letter(code=ReasonCode.ID_TAKEN), uses=uses)
    assert (one.action, one.request_id) == (Action.SEND, "r1-r1")
    assert "another tenant" in one.note


@pytest.mark.parametrize("source", ["workers", "control"])
def test_letters_of_workers_and_operators_are_never_sent(source: str) -> None:
    assert only(letter(source_topic=source)).action is Action.NOT_A_REQUEST


@pytest.mark.parametrize(
    ("original", "words"),
    [
        (None, "no value"),
        (b"\xff\xfe", "would be refused again"),
        (b'{"request_id": "r1"}', "would be refused again, mend it and send it: tenant"),
        (request(deadline_at=NOW - 1), "deadline_at has passed"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), f"{MAX_MESSAGE_BYTES + 1} bytes"),
    ],
)
def test_what_can_not_be_sent_says_why(original: bytes | None, words: str) -> None:
    one = only(letter(original=encode_original(original)))
    assert one.action is Action.IMPOSSIBLE
    assert words in one.note


def test_a_deadline_to_come_is_no_obstacle() -> None:
    assert only(letter(original=encode_original(request(deadline_at=NOW + 1)))).action is Action.SEND


def test_a_large_original_is_not_kept_in_memory() -> None:
    (one,) = found(letter(original=encode_original(b"x" * (MAX_MESSAGE_BYTES + 1))))
    assert one.letter.original is None and one.size == MAX_MESSAGE_BYTES + 1


def test_the_largest_message_still_fits_with_a_new_id() -> None:
    widest = {
        "prompt": "\U0001f600" * 2000,
        "negative_prompt": "\U0001f600" * 2000,
        "pools": ["p" * 64] * 16,
        "exclude_pools": ["q" * 64] * 16,
    }
    original = json.dumps({"request_id": "x" * 128, "tenant": "a" * 64, **widest}, ensure_ascii=False).encode()
    padded = original[:-1] + b" " * (MAX_MESSAGE_BYTES - len(original)) + b"}"
    one = only(failed("x" * 128, original=encode_original(padded)), uses={"x" * 128: use()})
    assert one.action is Action.SEND and one.renamed and len(one.value) < MAX_MESSAGE_BYTES


def test_messages_that_are_no_letters_are_counted() -> None:
    letters = Letters(selection=Selection())
    for offset, value in enumerate((None, b"", b"{}", letter().to_json())):
        letters.take(Record(value=value, partition=0, offset=offset))
    assert (letters.unreadable, len(letters.all())) == (3, 1)


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(ids=frozenset({"r1", "r2"})), True),
        (Selection(ids=frozenset({"r2"})), False),
        (Selection(tenant="acme"), True),
        (Selection(tenant="globex"), False),
        (Selection(reason=ReasonCode.OVERLOADED), True),
        (Selection(reason=ReasonCode.RATE_LIMITED), False),
        (Selection(source="requests.realtime"), True),
        (Selection(source="requests.batch"), False),
        (Selection(since=NOW - 60), True),
        (Selection(since=NOW - 59), False),
    ],
)
def test_selection(selection: Selection, taken: bool) -> None:
    assert bool(found(letter(), selection=selection)) is taken


def test_the_same_bytes_elsewhere_are_another_letter() -> None:
    one, other = found(letter(None), letter(None))
    assert one.key != other.key


def event(state: State, at: float, attempt: int = 0) -> StatusEvent:
    return StatusEvent(event_id=event_id("r1", state, attempt), request_id="r1", tenant="acme", state=state, at=at, attempt=attempt)


def used(*events: StatusEvent) -> IdUse:
    taken = IdUse(tenant=events[0].tenant, state=events[0].state)
    for one in events:
        taken.take(one)
    return taken


def test_an_id_that_was_only_refused_was_never_accepted() -> None:
    assert used(event(State.REFUSED, 5.0)).accepted_at is None


def test_an_id_is_accepted_when_it_is_first_queued() -> None:
    life = used(event(State.QUEUED, 5.0), event(State.PROCESSING, 6.0, 1), event(State.QUEUED, 9.0, 1), event(State.FAILED, 12.0, 3))
    assert (life.accepted_at, life.state) == (5.0, State.FAILED)


def test_the_newest_life_of_an_id_counts() -> None:
    life = used(event(State.QUEUED, 5.0), event(State.FAILED, 6.0, 1), event(State.QUEUED, 90_000.0))
    assert (life.accepted_at, life.state) == (90_000.0, State.QUEUED)


def test_where_the_topic_begins_in_the_middle_the_first_event_is_taken() -> None:
    assert used(event(State.PROCESSING, 7.0, 1), event(State.COMPLETED, 9.0, 1)).accepted_at == 7.0


SINCE = {"60": NOW - 60, "0.5": NOW - 0.5, "1970-01-01T00:01:00": 60.0, "1970-01-01T01:01:00+01:00": 60.0, "1970-01-02": 86400.0}


@pytest.mark.parametrize(("text", "at"), SINCE.items())
def test_since(text: str, at: float) -> None:
    assert since_seconds(text, NOW) == at


@pytest.mark.parametrize("text", ["", "yesterday", "nan", "inf", "12:00 o'clock"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        since_seconds(text, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_new_id_changes_nothing_else(fields: dict[str, Any]) -> None:
    original = {**fields, "request_id": "r1"}
    sent = json.loads(renamed(json.dumps(original).encode(), "r1-r1"))
    trace = original.get("trace_id")
    assert sent == {**original, "request_id": "r1-r1", "trace_id": "r1" if trace is None else trace}
