"""The controller's law around workers that serve what comes, first come first served: it starts what the work justifies, and settles."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

import pytest

from include.autoscale.demand import RATE_TAU_S, DemandTracker
from include.autoscale.drivers.memory import MemoryDriver
from include.autoscale.rules import PoolScaling
from include.autoscale.sizer import Sizer
from include.contracts.events import State, Usage
from tests.unit.include.autoscale.builders import NOW, OBJECTIVES, credit, event, queued, rule

EVERY_S = 2
JOB_S = 2.0  #: device seconds of a request


@dataclass
class Plant:
    """Workers that take ``start_s`` to start, and render one request at a time. One second a turn."""

    scaling: PoolScaling
    tracker: DemandTracker = field(default_factory=lambda: DemandTracker(NOW))
    sizer: Sizer = field(default_factory=Sizer)
    waiting: deque[str] = field(default_factory=deque)
    rendering: dict[str, tuple[str, float]] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)  #: running and starting, by second

    def __post_init__(self) -> None:
        self.driver = MemoryDriver("std", self.scaling.min_workers)

    def run(self, arrivals: Iterable[int]) -> list[int]:
        """:param arrivals: requests by second"""
        for second, count in enumerate(arrivals):
            now = NOW + second
            self._serve(now)
            for number in range(count):
                self.waiting.append(f"r-{second}-{number}")
                self.tracker.take_event(queued(self.waiting[-1], JOB_S, at=now))
            if second % EVERY_S == 0:
                self._decide(now)
            self.sizes.append(self.driver.observe().counts().total)
        return self.sizes

    def _serve(self, now: float) -> None:
        for name in self.driver.observe().starting:
            if now - self.asked_at[name] >= self.scaling.start_s:
                self.driver.started(name)
        for name, (request, until) in list(self.rendering.items()):
            if now >= until:
                del self.rendering[name]
                usage = Usage(gpu_seconds=JOB_S, render_s=JOB_S, steps=4)
                self.tracker.take_event(event(State.COMPLETED, request, at=now, usage=usage))
        for name in self.driver.observe().draining:
            if name not in self.rendering:
                self.driver.gone(name)
        for name in self.driver.observe().running:
            if name not in self.rendering and self.waiting:
                self.rendering[name] = self.waiting.popleft(), now + JOB_S
                self.tracker.take_event(event(State.PROCESSING, self.rendering[name][0], attempt=1, pool="std", at=now))
            busy = name in self.rendering
            self.tracker.take_worker(credit(name, at=now, held=("lease",) if busy else (), utilisation=float(busy)))

    def _decide(self, now: float) -> None:
        snapshot = self.tracker.snapshot(now, {"std": self.driver.observe().counts()}, OBJECTIVES)
        (decision,) = self.sizer.decide(snapshot, {"std": self.scaling})
        if decision.changes:
            self.driver.scale_to(decision.after, decision.now.idle_workers)
            for name in self.driver.observe().starting:
                self.asked_at.setdefault(name, now)


def poisson(rate: float, seconds: int, seed: int) -> list[int]:
    """Requests by second whose device seconds come at ``rate`` a second."""
    draw, counts = random.Random(seed), [0] * seconds
    at = draw.expovariate(rate / JOB_S)
    while at < seconds:
        counts[int(at)] += 1
        at += draw.expovariate(rate / JOB_S)
    return counts


def turns(sizes: list[int]) -> int:
    """How often growing followed shrinking."""
    steps = [after - before for before, after in pairwise(sizes) if after != before]
    return sum(one < 0 < other for one, other in pairwise(steps))


@pytest.mark.parametrize("start_s", [5.0, 10.0, 40.0])
@pytest.mark.parametrize("requests", [5, 30, 100])
def test_many_requests_at_once_start_no_more_than_their_work_keeps_busy(start_s: float, requests: int) -> None:
    scaling = rule(min_workers=0, max_workers=200, start_s=start_s)
    sizes = Plant(scaling).run([0] * 10 + [requests] + [0] * 200)
    within_s = 2 * start_s  # each renders for as long as it took to start
    work_s = requests * JOB_S * (1 + within_s / RATE_TAU_S)  # as much may come again in the time that the stable rate looks back
    assert max(sizes) <= ceil(work_s / start_s) + 1


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 8, 11])
@pytest.mark.parametrize("rate", [0.3, 2.0, 6.0])
def test_steady_load_has_the_workers_that_the_target_asks_for_and_keeps_them(rate: float, seed: int) -> None:
    scaling = rule(max_workers=100, down_after_s=120.0)
    settled = Plant(scaling).run(poisson(rate, 900, seed))[240:]
    ideal = ceil(rate / scaling.target)
    assert ideal - 1 <= min(settled) and max(settled) <= ceil(1.6 * ideal) + 1, "a Poisson stream is uneven"
    assert turns(settled) <= 3


@pytest.mark.parametrize("rate", [3.0, 9.0])
def test_a_load_that_comes_to_stay_has_its_workers_soon_and_few_too_many(rate: float) -> None:
    scaling = rule(max_workers=100, start_s=20.0)
    sizes = Plant(scaling).run(poisson(0.3, 120, 1) + poisson(rate, 400, 2))
    ideal = rate / scaling.target
    assert max(sizes[120:150]) >= rate, "enough are on their way within half a minute"
    assert max(sizes) <= ceil(2.0 * ideal) + 1, "what waited for them has to be made up for"


def test_it_goes_back_to_where_it_was_without_turning_round() -> None:
    scaling = rule(max_workers=100, down_after_s=60.0)
    sizes = Plant(scaling).run(poisson(0.3, 60, 1) + poisson(6.0, 120, 2) + [0] * 400)
    assert sizes[-1] == scaling.min_workers and turns(sizes) <= 1
