"""What may be removed: one thing, the verdict on it, and who finds and removes things of its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from include.lifecycle.maintenance.limits import Limits

DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that can be removed by itself."""

    kind: str  #: of which :class:`Keeper`
    name: str  #: by which the keeper finds it again
    bytes: int  #: what it takes up, as far as that is known
    age_s: float  #: since it was last written
    goes: bool
    why: str  #: why it goes, or why it stays


class Plan(BaseModel):
    """What was found, and by which limits it was judged. Removing follows it to the letter."""

    model_config = ConfigDict(frozen=True)

    made_at: float  #: seconds since 1970
    limits: Limits
    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()  #: kinds that could not be looked at, and why

    @property
    def going(self) -> list[Item]:
        return [item for item in self.items if item.goes]

    @property
    def bytes(self) -> int:
        """What the removal frees."""
        return sum(item.bytes for item in self.going)


class Keeper(ABC):
    """Finds, judges and removes things of one kind."""

    kind: ClassVar[str]

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Everything of the kind, judged."""

    @abstractmethod
    def item(self, name: str) -> Item | None:
        """The thing as it is judged at this moment; None where it is gone."""

    @abstractmethod
    def remove(self, item: Item) -> None:
        """Removes what :meth:`item` has just given. Repeating it after a crash finishes the work. Raises :class:`StillNeededError`."""


class StillNeededError(Exception):
    """Somebody has begun to use the thing."""


def judged(limits: Limits, kind: str, name: str, size: int, age_s: float, limit_days: float | None, needed: str = "") -> Item:
    """The verdict by age.

    :param needed: by whom or why it stays whatever its age; empty where nobody needs it
    """
    goes, why = _verdict(limits, age_s / DAY_S, limit_days, needed)
    return Item(kind=kind, name=name, bytes=size, age_s=age_s, goes=goes, why=why)


def _verdict(limits: Limits, days: float, limit_days: float | None, needed: str) -> tuple[bool, str]:
    if needed:
        return False, needed
    if limit_days is None:
        return False, "no limit is set"
    if days < limits.grace_days:
        return False, f"younger than the {limits.grace_days:g} days of grace"
    if days < limit_days:
        return False, f"younger than {limit_days:g} days"
    return True, f"older than {limit_days:g} days, and nothing needs it"
