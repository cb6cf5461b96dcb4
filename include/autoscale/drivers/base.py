"""The port: what a pool's workers are, and how there become more or fewer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from include.autoscale.sizing import PoolNow


class DriverError(RuntimeError):
    """Whoever runs the workers can't be asked or refuses; the text says who, why, and what would help. Trying again later may succeed."""


@dataclass(frozen=True, kw_only=True)
class PoolState:
    """A pool's workers by id, as whoever runs them sees them."""

    running: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()  #: asked for, and not running yet
    draining: tuple[str, ...] = ()  #: told to stop, and not gone yet

    def __post_init__(self) -> None:
        for name in ("running", "starting", "draining"):
            object.__setattr__(self, name, tuple(sorted(getattr(self, name))))

    def counts(self) -> PoolNow:
        return PoolNow(running=len(self.running), starting=len(self.starting), draining=len(self.draining))


class PoolDriver(ABC):
    """One pool's workers.

    There is no call that drains one worker: to repeat a wish must change nothing, so a wish is always the whole number.
    """

    @abstractmethod
    def observe(self) -> PoolState:
        """Raises :class:`DriverError`."""

    @abstractmethod
    def scale_to(self, count: int, leaving: Sequence[str] = ()) -> None:
        """Ask for so many workers, those that start or run now included; returns without waiting for them.

        Workers that go are drained: they get SIGTERM, finish or hand back what they hold, and say goodbye.

        :param leaving: ids of workers that should go first where some must, as far as the driver can choose
        Raises :class:`DriverError`, and :class:`ValueError` for a negative count.
        """


def checked(count: int) -> int:
    if count < 0:
        raise ValueError(f"a pool can't have {count} workers")
    return count


def who_leaves(running: Sequence[str], starting: Sequence[str], number: int, leaving: Sequence[str]) -> list[str]:
    """Which of a pool's workers go: those that have not begun to work, then those that are named, then the last by id."""
    named = [name for name in leaving if name in running]
    others = [name for name in reversed(running) if name not in named]
    return [*reversed(starting), *named, *others][: max(0, number)]
