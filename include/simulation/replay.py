"""A recorded cell again: the router's inputs in their order, and what it sends out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from include.contracts.requests import ServiceClass
from include.routing.router import Outgoing, Router
from include.scheduling.scheduler import Scheduler

#: What an input is, by the topic it came from; a tick came from no topic.
REALTIME, BATCH, WORKER, CONTROL, TICK = "r", "b", "w", "c", "t"

#: Seconds since 1970, one of the letters, and the message's bytes as ISO-8859-1 (None for a null value and for a tick).
Recorded = tuple[float, str, str | None]


def replay(recorded: Iterable[Recorded], scheduler: Scheduler) -> list[Outgoing]:
    """Drive a router over ``scheduler`` through recorded inputs; returns every message it sends, in order.

    The same inputs at the same times give the same messages, byte for byte, wherever the scheduler runs: in Flink, in the simulator, here.
    Raises :class:`ValueError` for an unknown letter.
    """
    router = Router(scheduler)
    return [message for at, letter, text in recorded for message in _one(router, at, letter, text)]


def _one(router: Router, at: float, letter: str, text: str | None) -> Iterator[Outgoing]:
    if letter in (REALTIME, BATCH):
        return router.request(text, ServiceClass.REALTIME if letter == REALTIME else ServiceClass.BATCH, at)
    if letter == WORKER:
        return router.worker(text, at)
    if letter == CONTROL:
        return router.control(text, at)
    if letter == TICK:
        return router.tick(at)
    raise ValueError(f"{letter!r} at {at} is none of {REALTIME}, {BATCH}, {WORKER}, {CONTROL}, {TICK}")
