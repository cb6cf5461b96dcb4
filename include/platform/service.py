"""A service of the local profile: how it starts, what it needs, how one knows that it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    HEALTHY = "healthy"  #: its own check passes
    STARTING = "starting"  #: the process runs, the check does not pass yet
    UNREACHABLE = "unreachable"  #: the process runs, or is not ours, and the check fails for longer than a start takes
    DOWN = "down"  #: no process


class Unhealthy(Exception):
    """Raised by a health check; its text is the reason that ``atelier status`` shows."""


def nothing() -> None:
    """The hook of a service that needs none."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One row of ``atelier status``. A service with an empty command runs elsewhere and is only checked."""

    name: str
    check: Callable[[], None]  #: returns when the service works, raises :class:`Unhealthy` with the reason when not
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  #: on top of the environment that all services share
    depends_on: tuple[str, ...] = ()  #: names of services that must be healthy before this one starts
    prepare: Callable[[], object] = nothing  #: runs before the process starts; must be cheap when there is nothing left to do
    on_healthy: Callable[[], object] = nothing  #: runs once the check passed, before whatever depends on it starts
    notes: Callable[[], Iterable[str]] = tuple  #: what people should know or do although it is healthy; may raise
    url: str = ""
    start_s: float = 60.0  #: seconds a start may take before a failing check counts as unreachable
    stop_s: int = 10  #: seconds between SIGTERM and SIGKILL

    @property
    def is_ours(self) -> bool:
        return bool(self.command)
