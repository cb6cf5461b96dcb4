"""What the router sends a worker, read. A lease of ours that can't be read is answered at once: its requests need not wait until it
expires."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from include.contracts.base import Identifier
from include.contracts.dispatch import AnyDispatchMessage, DispatchKind, dispatch_messages
from include.contracts.errors import Reason, refusal_of

log = logging.getLogger(__name__)

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A lease for this worker that breaks its contract, as one of another release may."""

    lease_id: str
    reason: Reason


def read_dispatch(message: Any, *, worker_id: str, incarnation: str) -> AnyDispatchMessage | Unreadable | None:
    """None for what can't be read and is, as far as can be told, no lease of this worker's incarnation.

    :param message: JSON as bytes, or what it holds
    """
    try:
        return dispatch_messages.validate_json(message) if isinstance(message, bytes) else dispatch_messages.validate_python(message)
    except ValidationError as error:
        reason, lease_id = refusal_of(error), _our_lease(message, worker_id, incarnation)
    if lease_id is None:
        log.error("a dispatch can't be read and is skipped: %s", reason.message)
        return None
    words = f"lease {lease_id} can't be read: {reason.message}; run router and workers of one release"
    return Unreadable(lease_id=lease_id, reason=reason.model_copy(update={"message": words[:2000]}))


def _our_lease(message: Any, worker_id: str, incarnation: str) -> str | None:
    """The id of the lease that it was meant to be."""
    try:
        content = json.loads(message) if isinstance(message, bytes) else message
        if (content["kind"], content["worker_id"], content["incarnation"]) != (DispatchKind.LEASE, worker_id, incarnation):
            return None
        return _IDENTIFIER.validate_python(content["lease_id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
