"""Parts as JSON text, for those who write thousands a second: what pydantic writes, in half the time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from include.contracts.base import Part
from include.contracts.dispatch import BatchKey, ModelRef

#: Many leases name the same few of these, so each is written once.
_SHARED = frozenset({BatchKey, ModelRef})


def ascii_json(part: Part) -> str:
    """Without the fields that are None. ASCII, because texts pass through a Java string on their way out of the router.

    Raises :class:`pydantic_core.PydanticSerializationError` where a part holds something other than parts and what JSON has.
    """
    try:
        written = orjson.dumps(part, default=_content)
    except orjson.JSONEncodeError:  # as with keys that are enumerations
        return _by_pydantic(part)
    return written.decode() if written.isascii() else _by_pydantic(part)


def _by_pydantic(part: Part) -> str:
    return part.model_dump_json(exclude_none=True, ensure_ascii=True)


def _content(part: Any) -> Any:
    """Called by orjson for each part that it meets."""
    if type(part) in _SHARED:
        return _fragment(part)
    return {name: value for name, value in part.__dict__.items() if value is not None}


@lru_cache(1024)
def _fragment(part: Part) -> orjson.Fragment:
    return orjson.Fragment(part.model_dump_json(exclude_none=True))
