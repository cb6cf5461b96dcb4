from __future__ import annotations

import json

import pytest

from include.contracts.requests import MAX_PROMPT, Tier
from include.gateway.bodies import body_schema, digest_of, parse_image_request
from include.gateway.errors import ApiError
from include.gateway.keys import Caller

ACME = Caller(tenant="acme", tier=Tier.PRO)


def test_the_key_decides_who_asks() -> None:
    request = parse_image_request(b'{"prompt": "red apple", "request_id": "mine", "steps": 4}', ACME)
    assert (request.tenant, request.tier, request.request_id, request.steps) == ("acme", Tier.PRO, "mine", 4)


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    first, second = (parse_image_request(b'{"prompt": "red apple"}', ACME) for _ in range(2))
    assert first.request_id != second.request_id


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "invalid_message", None),
        (b"not json", "invalid_message", None),
        (b"\xff\xfe", "invalid_message", None),
        (b"[1]", "invalid_message", None),
        (b"null", "invalid_message", None),
        (b"[" * 40_000, "invalid_message", None),
        (b"{}", "invalid_field", "prompt"),
        (b'{"prompt": ""}', "invalid_field", "prompt"),
        (b'{"prompt": "a\\u0000b"}', "invalid_field", "prompt"),
        (b'{"prompt": "a\\ud800b"}', "invalid_message", None),
        (json.dumps({"prompt": "x" * (MAX_PROMPT + 1)}).encode(), "invalid_field", "prompt"),
        (b'{"prompt": "a", "tenant": "globex"}', "invalid_field", "tenant"),
        (b'{"prompt": "a", "tier": "enterprise"}', "invalid_field", "tier"),
        (b'{"prompt": "a", "colour": "red"}', "invalid_field", "colour"),
        (b'{"prompt": "a", "steps": -1}', "invalid_field", "steps"),
        (b'{"prompt": "a", "guidance": NaN}', "invalid_field", "guidance"),
        (b'{"prompt": "a", "width": 7, "height": 64}', "invalid_field", "width"),
        (b'{"prompt": "a", "width": 1000000000, "height": 64}', "invalid_field", "width"),
        (b'{"prompt": "a", "width": ' + b"9" * 5000 + b"}", "invalid_message", None),
        (b'{"prompt": "a", "request_id": "../../etc"}', "invalid_field", "request_id"),
        (b'{"prompt": "a", "schema_version": 9}', "unsupported_schema", "schema_version"),
    ],
)
def test_a_bad_body_is_refused_with_the_field(body: bytes, code: str, field: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        parse_image_request(body, ACME)
    assert (refused.value.status, refused.value.detail.code, refused.value.detail.field) == (422, code, field)


def test_two_spellings_of_one_body_have_one_digest() -> None:
    assert digest_of(b'{"prompt": "a", "steps": 4}') == digest_of(b'{ "steps":4, "prompt":"a" }')
    assert digest_of(b'{"prompt": "a"}') != digest_of(b'{"prompt": "b"}')


def test_the_documented_body_is_the_contract_without_what_the_key_decides() -> None:
    schema = body_schema()
    assert schema["required"] == ["prompt"]
    assert {"prompt", "steps", "image_format", "deadline_at"} <= schema["properties"].keys()
    assert not {"tenant", "tier"} & schema["properties"].keys()
    assert "$ref" not in json.dumps(schema)


def test_adapters_and_an_image_to_start_from_are_taken() -> None:
    body = {"prompt": "a", "adapters": [{"name": "sketch", "weight": 0.5}], "init_image": "inputs/acme/a.png", "strength": 0.4}
    request = parse_image_request(json.dumps(body).encode(), ACME)
    assert [(adapter.name, adapter.weight) for adapter in request.adapters] == [("sketch", 0.5)]
    assert (request.init_image, request.strength) == ("inputs/acme/a.png", 0.4)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"adapters": [{"name": "a"}, {"name": "a"}]}, None, "names one twice"),
        ({"adapters": [{"name": "a", "weight": 9}]}, "adapters.0.weight", "less than or equal to 2"),
        ({"init_image": "inputs/globex/a.png"}, None, "under images/acme/ or inputs/acme/"),
        ({"init_image": "inputs/acme/../globex/a.png"}, "init_image", "pattern"),
        ({"strength": 0.5}, None, "strength goes with init_image"),
        ({"init_image": "inputs/acme/a.png", "strength": 0}, "strength", "greater than 0"),
    ],
)
def test_what_is_wrong_with_them_is_said(fields: dict[str, object], field: str | None, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_image_request(json.dumps({"prompt": "a", **fields}).encode(), ACME)
    assert caught.value.detail.field == field
    assert words in str(caught.value)


def test_the_schema_refers_to_nothing_outside_itself() -> None:
    assert "$ref" not in json.dumps(body_schema())
    assert body_schema()["properties"]["adapters"]["items"]["properties"]["weight"]["maximum"] == 2.0
