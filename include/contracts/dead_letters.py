"""Messages that could not be taken or finished, with their original bytes."""

from __future__ import annotations

import base64

from pydantic import Field

from include.contracts.base import Identifier, Message, Name, Timestamp
from include.contracts.errors import Reason


class DeadLetter(Message):
    """``original`` is base64, because what arrived need not be text."""

    source_topic: str = Field(description="Topic it arrived on, without the installation's prefix.")
    at: Timestamp
    reason: Reason
    original: str | None = Field(None, description="The original bytes in base64; null if the message had no value.")
    request_id: Identifier | None = None
    tenant: Name | None = None
    attempts: int = Field(0, ge=0, description="Dispatches before it was given up.")

    def original_bytes(self) -> bytes | None:
        return None if self.original is None else base64.b64decode(self.original)


def encode_original(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
