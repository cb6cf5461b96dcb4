"""What keepers are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from include.config import Settings
from include.lifecycle.maintenance.ancestry import Needed, find_needed
from include.lifecycle.maintenance.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Context:
    settings: Settings
    limits: Limits
    needed: Callable[[], Needed]  #: what must stay; one look for a plan, a new look for each removal


def for_planning(settings: Settings, limits: Limits) -> Context:
    """One look at what is needed, taken now."""
    needed = find_needed(settings)
    return Context(settings=settings, limits=limits, needed=lambda: needed)


def for_removal(settings: Settings, limits: Limits) -> Context:
    """A new look each time."""
    return Context(settings=settings, limits=limits, needed=lambda: find_needed(settings))
