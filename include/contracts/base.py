"""What all messages share: strictness, ids, the schema version."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

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
    """An enumeration of texts that is as fast as its text: ``enum`` would hash it, and read its value for JSON, in Python each time."""

    __hash__ = str.__hash__
    if not TYPE_CHECKING:
        value = property(attrgetter("_value_"))


class Part(BaseModel):
    """A piece of a message: immutable, unknown fields refused, NaN and infinities refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def trusted(cls, **content: Any) -> Self:
        """As the constructor, without its checks: for what is made of things that were checked before, many times a second."""
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", _defaults(cls) | content)
        object.__setattr__(made, "__pydantic_fields_set__", set(content))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


@cache
def _defaults(kind: type[Part]) -> dict[str, Any]:
    """Shared by all that is made of them, so none of them may be a thing that changes."""
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True) for name, field in kind.model_fields.items()
    }


class Message(Part):
    """A message on a topic: a part with a schema's version of its own, JSON in and out."""

    schema_version: Literal[1] = Field(1, description="Version of this message's schema; this release speaks 1.")

    def to_json(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Raises :class:`pydantic.ValidationError`; :func:`include.contracts.errors.refusal_of` makes it a reason."""
        return cls.model_validate_json(data)


def dump(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json", exclude_none=True)
