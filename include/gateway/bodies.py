"""What a POST carries: a ``GenerationRequest`` without the fields that the API key decides."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from include.contracts.errors import ReasonCode, refusal_of
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest
from include.gateway.errors import ApiError, HttpErrorCode, refused
from include.gateway.keys import Caller

FROM_THE_KEY = ("tenant", "tier")


async def read_body(request: Request, max_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The body, read no further than the limit."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def parse_image_request(body: bytes, caller: Caller) -> GenerationRequest:
    """Raises :class:`ApiError` with the field and the fix."""
    fields = _object(body)
    for name in FROM_THE_KEY:
        if name in fields:
            raise ApiError(422, ReasonCode.INVALID_FIELD, f"{name}: the API key decides it; remove it", field=name)
    made = {"request_id": f"r-{uuid.uuid4().hex}", "created_at": round(time.time(), 3), "trace_id": uuid.uuid4().hex}
    try:
        request = GenerationRequest.from_json(json.dumps({**made, **fields, "tenant": caller.tenant, "tier": caller.tier}))
    except ValidationError as error:
        raise refused(refusal_of(error)) from error
    if len(request.to_json()) > MAX_MESSAGE_BYTES:
        raise _too_large(MAX_MESSAGE_BYTES)
    return request


def digest_of(body: bytes) -> str:
    """Digest of the body's meaning: two bodies that differ in spaces and the order of fields have the same."""
    return hashlib.sha256(json.dumps(_object(body), sort_keys=True).encode()).hexdigest()


def body_schema() -> dict[str, Any]:
    """The JSON Schema of the body, self-contained, for the OpenAPI document."""
    schema = GenerationRequest.model_json_schema()
    definitions = schema.pop("$defs", {})
    fields = {name: _inlined(field, definitions) for name, field in schema["properties"].items() if name not in FROM_THE_KEY}
    fields["request_id"]["description"] = "Your id and idempotency key; empty means the gateway makes one."
    return {**schema, "title": "ImageRequest", "properties": fields, "required": ["prompt"]}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _inlined(value, definitions) for key, value in schema.items() if key != "$ref"}
    if "$ref" not in schema:
        return rest
    return {**_inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions), **rest}


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(422, ReasonCode.INVALID_MESSAGE, f"not valid JSON: {error}"[:2000]) from error
    if not isinstance(fields, dict):
        raise ApiError(422, ReasonCode.INVALID_MESSAGE, "the body must be a JSON object")
    return fields


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, HttpErrorCode.TOO_LARGE, f"the body is larger than {max_bytes} bytes")
