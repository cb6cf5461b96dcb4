"""From the bytes on a topic to a message, or to the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from include.contracts.base import Identifier, Name
from include.contracts.control import AnyControlMessage, control_messages
from include.contracts.errors import Reason, ReasonCode, refusal_of
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest
from include.contracts.workers import AnyWorkerMessage, worker_messages

_identifier: TypeAdapter[str] = TypeAdapter(Identifier)
_name: TypeAdapter[str] = TypeAdapter(Name)

#: Larger messages are not even searched for their id.
MAX_SALVAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a message can't be taken, with whatever of its identity could be read."""

    reason: Reason
    request_id: str | None = None
    tenant: str | None = None
    trace_id: str | None = None


def _salvaged(adapter: TypeAdapter[str], value: Any) -> str | None:
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError:
        return None


def refused(reason: Reason, data: bytes) -> Refusal:
    """With the identity read out of a message that is refused otherwise."""
    try:
        found = from_json(data) if len(data) <= MAX_SALVAGE_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return Refusal(reason=reason)
    return Refusal(
        reason=reason,
        request_id=_salvaged(_identifier, found.get("request_id")),
        tenant=_salvaged(_name, found.get("tenant")),
        trace_id=_salvaged(_identifier, found.get("trace_id")),
    )


def _unreadable(text: str | None, data: bytes) -> str | None:
    """What keeps a message from being read as JSON at all, in words."""
    if text is None:
        return "the message has no value; send a JSON object"
    if len(data) > MAX_MESSAGE_BYTES:
        return f"the message has {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are taken"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start}; send UTF-8"
    return None


def parse_request(text: str | None) -> GenerationRequest | Refusal:
    """``text`` is the message's bytes as ISO-8859-1, so that whatever arrived can be given back; None for a null value."""
    data = b"" if text is None else text.encode("latin-1")
    trouble = _unreadable(text, data)
    try:
        if trouble is None:
            return GenerationRequest.from_json(data)
        if MAX_MESSAGE_BYTES < len(data) <= MAX_SALVAGE_BYTES:
            GenerationRequest.from_json(data)
    except ValidationError as error:
        return refused(refusal_of(error), data)
    return refused(Reason(code=ReasonCode.INVALID_MESSAGE, message=trouble or ""), data)


def parse_worker(text: str | None) -> AnyWorkerMessage | Refusal:
    return _parse(worker_messages, text)


def parse_control(text: str | None) -> AnyControlMessage | Refusal:
    return _parse(control_messages, text)


def _parse(adapter: TypeAdapter[Any], text: str | None) -> Any:
    data = b"" if text is None else text.encode("latin-1")
    trouble = _unreadable(text, data)
    if trouble is not None:
        return Refusal(reason=Reason(code=ReasonCode.INVALID_MESSAGE, message=trouble))
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        return Refusal(reason=refusal_of(error))
