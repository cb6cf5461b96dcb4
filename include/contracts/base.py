"""What all messages share: strictness, ids, the schema version."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

#: Ids travel in object keys, URLs and file names, so they hold nothing that any of these would have to escape.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length=1, max_length=128)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", min_length=1, max_length=64)]
#: The key of an object in the store.
ObjectKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]*(/[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]*)*$", max_length=512)]
#: Seconds since 1970, UTC.
Timestamp = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Label(StrEnum):
    """An enumeration of texts that is as fast a key as its text; ``enum`` would hash it in Python at every look-up."""

    __hash__ = str.__hash__


class Message(BaseModel):
    """A message on a topic: immutable, unknown fields refused, NaN and infinities refused, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = Field(1, description="Version of this message's schema; this release speaks 1.")

    def to_json(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Raises :class:`pydantic.ValidationError`; :func:`include.contracts.errors.refusal_of` makes it a reason."""
        return cls.model_validate_json(data)


class Part(BaseModel):
    """A piece of a message: the same strictness without a version of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def dump(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", exclude_none=True)
