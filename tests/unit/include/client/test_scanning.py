"""Ids are found without parsing."""

from __future__ import annotations

import pytest

from include.client.scanning import request_id_of
from include.contracts.errors import Reason, ReasonCode
from tests.unit.include.client.stories import letter


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"request_id":null}', b'{"request_id":"a b"}'])
def test_no_id_is_found_where_there_is_none(value: bytes | None) -> None:
    assert request_id_of(value) is None


def test_an_id_quoted_in_a_message_is_not_taken_for_the_id() -> None:
    reason = Reason(code=ReasonCode.INVALID_FIELD, message='"request_id":"decoy"')
    assert request_id_of(letter(reason).to_json()) == "r1"
