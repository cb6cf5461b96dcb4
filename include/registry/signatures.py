"""Who moved an alias, as the mover itself says: tags on the registered model, because MLflow records neither mover nor move.

A move is signed before it is made and marked as done after it. So each move by Atelier's own tools is known from MLflow alone, also to a
watcher that was down meanwhile; and of a mover that died half-way it is known that it may not have moved anything.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

SIGNED = "atelier.moved."  #: on a registered model, with alias and id behind it


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One move of an alias."""

    alias: str
    by: str
    why: str
    at: float  #: just before the move, by the mover's clock, seconds since 1970
    from_version: str | None
    to_version: str | None  #: None takes the alias away
    done: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    @property
    def tag(self) -> str:
        """Key of its tag."""
        return f"{SIGNED}{self.alias}.{self.id}"

    def to_value(self) -> str:
        content = {"by": self.by, "why": self.why, "at": self.at, "from": self.from_version, "to": self.to_version, "done": self.done}
        return json.dumps(content)

    def took_effect(self, now_at: str | None) -> bool:
        """Whether the move was made, where the alias is at ``now_at``."""
        return self.done or self.to_version == now_at


def signatures_of(tags: Mapping[str, str], alias: str) -> list[Signature]:
    """In the order of the moves; a tag that can't be read is nobody's signature."""
    found = (_read(alias, key, value) for key, value in tags.items() if key.rpartition(".")[0] == SIGNED + alias)
    return sorted((signature for signature in found if signature is not None), key=lambda signature: (signature.at, signature.id))


def signed_aliases(tags: Mapping[str, str]) -> set[str]:
    """Aliases that some of the tags are signatures of."""
    return {key.removeprefix(SIGNED).rpartition(".")[0] for key in tags if key.startswith(SIGNED)}


def _read(alias: str, key: str, value: str) -> Signature | None:
    try:
        found = json.loads(value)
        return Signature(
            alias=alias,
            by=str(found["by"]),
            why=str(found["why"]),
            at=float(found["at"]),
            from_version=_version(found["from"]),
            to_version=_version(found["to"]),
            done=found["done"] is True,
            id=key.rpartition(".")[2],
        )
    except (KeyError, TypeError, ValueError):
        return None


def _version(value: object) -> str | None:
    return None if value is None else str(value)
