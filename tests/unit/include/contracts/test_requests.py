"""Every bad request is refused by a reason that names the field and the fix; every good one survives the round trip."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.contracts.errors import Reason, ReasonCode, refusal_of
from include.contracts.requests import MAX_PROMPT, GenerationRequest

GOOD: dict[str, Any] = {"request_id": "r-1", "tenant": "acme", "prompt": "a red heart"}


def refusal(data: bytes) -> Reason:
    with pytest.raises(ValidationError) as caught:
        GenerationRequest.from_json(data)
    return refusal_of(caught.value)


def refusal_with(**fields: Any) -> Reason:
    return refusal(json.dumps({**GOOD, **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 0, "height": 64}, "width"),
        ({"width": 7, "height": 64}, "width"),
        ({"width": 64, "height": 10**9}, "height"),
        ({"width": 20, "height": 64}, "width"),
        ({"steps": -1}, "steps"),
        ({"steps": 0}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": float("inf")}, "guidance"),
        ({"guidance": -0.1}, "guidance"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 1_000_000}, "prompt"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, "prompt"),
        ({"prompt": "bell \x07"}, "prompt"),
        ({"prompt": "nul \x00"}, "prompt"),
        ({"negative_prompt": "escape \x1b[2J"}, "negative_prompt"),
        ({"request_id": "../../etc/passwd"}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"tenant": "a/b"}, "tenant"),
        ({"tier": "platinum"}, "tier"),
        ({"images": 0}, "images"),
        ({"images": 17}, "images"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"image_format": "gif"}, "image_format"),
        ({"deadline_at": -5}, "deadline_at"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_field_is_named(fields: dict[str, Any], field: str) -> None:
    reason = refusal_with(**fields)
    assert (reason.code, reason.field) == (ReasonCode.INVALID_FIELD, field)
    assert field in reason.message


@pytest.mark.parametrize("missing", ["request_id", "tenant", "prompt"])
def test_missing_field_is_named(missing: str) -> None:
    reason = refusal(json.dumps({key: value for key, value in GOOD.items() if key != missing}).encode())
    assert reason.field == missing


@pytest.mark.parametrize("data", [b"", b"nope", b"\xff\xfe{}", b'{"request_id": ', b"\x00"])
def test_not_json(data: bytes) -> None:
    assert refusal(data).code is ReasonCode.INVALID_MESSAGE


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_unknown_schema_version(version: Any) -> None:
    assert refusal_with(schema_version=version).code is ReasonCode.UNSUPPORTED_SCHEMA


def test_one_side_alone_says_how_to_mend_it() -> None:
    assert "give both or neither" in refusal_with(width=64).message


def test_off_by_some_pixels_says_what_would_do() -> None:
    assert "16 would do" in refusal_with(width=20, height=64).message


@given(
    st.builds(
        GenerationRequest,
        request_id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"),
        tenant=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"),
        prompt=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=200),
        negative_prompt=st.just(""),
        model=st.none(),
        scenario=st.none(),
        width=st.none(),
        height=st.none(),
        steps=st.none() | st.integers(1, 200),
        guidance=st.none() | st.floats(0, 30),
        images=st.integers(1, 16),
        seed=st.none() | st.integers(0, 2**63 - 1),
        deadline_at=st.none() | st.floats(0, 1e11),
        created_at=st.none(),
        trace_id=st.none(),
    )
)
def test_round_trip(request: GenerationRequest) -> None:
    assert GenerationRequest.from_json(request.to_json()) == request
