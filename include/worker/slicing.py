"""Whose turn it is at a step boundary: the render that runs, one that was put aside, or a lease that waits.

A running render is put aside for a more urgent one, or for one of at most a quarter of the work that it has left, if that is as urgent.
How often, for how long, and how many at a time is bounded: preemption without such a bound makes the slowest slower than none at all does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far renders may be put aside."""

    max_parked: int = 2  #: renders put aside at a time at most; 0 turns time slicing off
    max_times: int = 3  #: how often one render is put aside at most
    max_parked_s: float = 60.0  #: seconds in all after which one is put aside no more, and goes on before others of its urgency
    shorter: float = 4.0  #: so many times less work makes a lease go first


@dataclass(frozen=True, kw_only=True)
class Turn(Generic[T]):
    """A candidate, as far as the choice goes."""

    of: T
    urgency: int  #: 0 is the most urgent
    left_s: float  #: device seconds that it still takes, estimated
    ready: bool = True  #: its model is loaded
    times: int = 0  #: times it was put aside
    parked_s: float = 0.0  #: seconds it was put aside, in all


def choose(
    running: Turn[T] | None, parked: Sequence[Turn[T]], waiting: Sequence[Turn[T]], bounds: Bounds, *, room: bool = True
) -> T | None:
    """Whose step comes next; None where nobody is there. ``parked`` and ``waiting`` are in the order in which they came.

    :param room: whether there is memory for one more render beside those that have begun
    """
    overdue = [turn for turn in parked if turn.parked_s >= bounds.max_parked_s]
    first_overdue = min(overdue, key=_order, default=None)
    if running is not None:
        if first_overdue is not None and first_overdue.urgency <= running.urgency and _may_be_parked(running, len(parked) - 1, bounds):
            return first_overdue.of
        if not room or not _may_be_parked(running, len(parked), bounds):
            return running.of
        before = [turn for turn in waiting if _goes_before(turn, running, bounds)]
        return min(before, key=_order).of if before else running.of
    resumed = first_overdue or min(parked, key=_order, default=None)
    coming = min(waiting, key=_order, default=None)
    if resumed is None or coming is None:
        chosen = resumed or coming
        return chosen.of if chosen is not None else None
    if room and first_overdue is None and _goes_before(coming, resumed, bounds):
        return coming.of
    return resumed.of


def _may_be_parked(turn: Turn[T], parked: int, bounds: Bounds) -> bool:
    return parked < bounds.max_parked and turn.times < bounds.max_times and turn.parked_s < bounds.max_parked_s


def _goes_before(turn: Turn[T], other: Turn[T], bounds: Bounds) -> bool:
    if turn.urgency < other.urgency:
        return True
    return turn.urgency == other.urgency and turn.ready and turn.left_s * bounds.shorter <= other.left_s


def _order(turn: Turn[T]) -> int:
    """Of equally urgent ones, ``min`` keeps the first."""
    return turn.urgency
