from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.errors import ReasonCode
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest
from include.contracts.workers import Credit
from include.routing.parse import Refusal, parse_control, parse_request, parse_worker

GOOD: dict[str, Any] = {"request_id": "r-1", "tenant": "acme", "prompt": "ein roter Bär", "trace_id": "t-1"}
FIELD, MESSAGE = ReasonCode.INVALID_FIELD, ReasonCode.INVALID_MESSAGE


def as_text(value: bytes | dict[str, Any]) -> str:
    """As it leaves the source: each byte a character."""
    return (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()).decode("latin-1")


def refused(value: bytes | dict[str, Any] | None) -> Refusal:
    found = parse_request(None if value is None else as_text(value))
    assert isinstance(found, Refusal)
    return found


def test_a_good_request_is_read_as_utf8() -> None:
    found = parse_request(as_text(GOOD))
    assert isinstance(found, GenerationRequest) and found.prompt == "ein roter Bär"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"prompt": ""}, FIELD, "prompt"),
        ({"width": 0, "height": 64}, FIELD, "width"),
        ({"width": 7, "height": 64}, FIELD, "width"),
        ({"width": 10**9, "height": 64}, FIELD, "width"),
        ({"steps": -1}, FIELD, "steps"),
        ({"guidance": float("nan")}, FIELD, "guidance"),
        ({"guidance": float("inf")}, FIELD, "guidance"),
        ({"prompt": "bell \x07"}, FIELD, "prompt"),
        ({"prompt": "x" * 2001}, FIELD, "prompt"),
        ({"prompt": "x" * 1_000_000}, FIELD, "prompt"),
        ({"seed": 2**64}, FIELD, "seed"),
        ({"seed": 10**400}, FIELD, "seed"),
        ({"what": 1}, FIELD, "what"),
        ({"w" * 5000: 1}, FIELD, "w" * 200),
        ({"schema_version": 99}, ReasonCode.UNSUPPORTED_SCHEMA, "schema_version"),
        ({"schema_version": 99, "what": 1, "prompt": None}, ReasonCode.UNSUPPORTED_SCHEMA, "schema_version"),
        ({"width": 64}, FIELD, None),
    ],
)
def test_a_wrong_field_is_named_and_the_identity_read(changes: dict[str, Any], code: ReasonCode, field: str | None) -> None:
    refusal = refused(GOOD | changes)
    assert (refusal.reason.code, refusal.reason.field) == (code, field)
    assert (refusal.request_id, refusal.tenant, refusal.trace_id) == ("r-1", "acme", "t-1")


@pytest.mark.parametrize(
    "value",
    [None, b"", b"please, a bear", b"{", b'{"prompt": "\xff\xfe\xc3\x28"}', b"\x00\x01", b"[" * 60_000, b'{"prompt": "\\ud800"}'],
    ids=["null", "empty", "prose", "open", "invalid UTF-8", "binary", "deep", "half a surrogate"],
)
def test_what_is_no_message_at_all_is_said_so(value: bytes | None) -> None:
    refusal = refused(value)
    assert refusal.reason.code is MESSAGE
    assert refusal.request_id is None and refusal.reason.message


@pytest.mark.parametrize("value", [b"[1]", b"3", b"null", b'"text"'])
def test_json_that_is_no_object(value: bytes) -> None:
    assert refused(value).reason.code in (FIELD, MESSAGE)


@pytest.mark.parametrize("identity", [{"request_id": "a b"}, {"request_id": 7}, {"tenant": "../x"}, {"tenant": None}])
def test_an_identity_that_is_none_is_not_salvaged(identity: dict[str, Any]) -> None:
    refusal = refused(GOOD | identity)
    assert (refusal.request_id is None) is ("request_id" in identity)
    assert (refusal.tenant is None) is ("tenant" in identity)


def test_a_message_too_large_is_refused_though_each_field_is_right() -> None:
    padded = json.dumps(GOOD).encode() + b" " * MAX_MESSAGE_BYTES
    refusal = refused(padded)
    assert refusal.reason.code is MESSAGE and str(MAX_MESSAGE_BYTES) in refusal.reason.message
    assert refusal.request_id == "r-1"


def test_a_huge_message_is_not_even_searched() -> None:
    refusal = refused(json.dumps(GOOD).encode() + b" " * 5_000_000)
    assert refusal.reason.code is MESSAGE and refusal.request_id is None


@given(st.binary(max_size=200))
def test_no_bytes_bring_it_down(value: bytes) -> None:
    text = value.decode("latin-1")
    for parse in (parse_request, parse_worker, parse_control):
        assert isinstance(parse(text), Refusal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5).filter(str.isascii), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from(sorted(GenerationRequest.model_fields)), value=json_values)
def test_no_value_of_any_field_brings_it_down(field: str, value: Any) -> None:
    assert isinstance(parse_request(as_text(GOOD | {field: value})), Refusal | GenerationRequest)


def test_workers_messages_are_read_and_refused_alike() -> None:
    identity = {"worker_id": "w", "incarnation": "i", "cell": "c", "pool": "p", "at": 1.0}
    assert isinstance(parse_worker(as_text({"kind": "credit", **identity})), Credit)
    refusal = parse_worker(as_text({"kind": "credit", **identity, "slots": -1}))
    assert isinstance(refusal, Refusal) and refusal.reason.field == "credit.slots"
    assert isinstance(parse_worker(None), Refusal)


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "policy", "at": 1, "lanes": [], "lane_bound_s": {"high": 1, "normal": 1, "low": 1}},
        {"kind": "scenario", "at": 1, "name": "s", "model": "m", "prompt_template": "bell \x07 {prompt}"},
        {"kind": "scenario", "at": 1, "name": "s", "model": "m", "negative_prompt": "bell \x07"},
        {"kind": "spell", "at": 1},
    ],
)
def test_a_control_message_that_could_not_be_lived_by_is_refused(message: dict[str, Any]) -> None:
    assert isinstance(parse_control(as_text(message)), Refusal)
