"""What people say about results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from include.contracts.base import Identifier, Message, Name, Timestamp


class Rating(Message):
    """How one person likes a request's images. A later rating by the same person replaces the earlier one."""

    kind: Literal["rating"] = "rating"
    request_id: Identifier
    tenant: Name
    rating: int = Field(ge=1, le=5, description="From 1, useless, to 5, just right.")
    by_whom: str = Field("", max_length=128, description="Who rates, as the product calls them; empty means the tenant itself.")
    at: Timestamp = Field(description="When it was said.")
