"""The scheduler's levels and counts in Flink's metric groups."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyflink.datastream import RuntimeContext

from include.contracts.events import TERMINAL, Lane, State
from include.scheduling.scheduler import Scheduler


def register(context: RuntimeContext, scheduler: Scheduler) -> None:
    """Gauges, in integers since that is what Flink's Python gauges carry: times in ms, device time in ms."""
    group = context.get_metrics_group()
    for lane in Lane:
        lane_group = group.add_group("lane", lane.value)
        for name, level in _lane_levels(scheduler, lane).items():
            lane_group.gauge(name, level)
    for state in sorted(TERMINAL):
        group.add_group("outcome", state.value).gauge("count", _outcomes(scheduler, state))
    group.gauge("in_flight", scheduler.in_flight)
    group.gauge("live_workers", lambda: scheduler.live_workers(time.time()))
    group.gauge("retries", lambda: scheduler.stats.retries)
    group.gauge("fenced", lambda: scheduler.stats.fenced)
    group.gauge("dead_letters", lambda: scheduler.stats.dead_letters)


def _lane_levels(scheduler: Scheduler, lane: Lane) -> dict[str, Callable[[], int]]:
    return {
        "depth": lambda: scheduler.depth(lane),
        "queued_gpu_ms": lambda: int(1000 * scheduler.queued_s(lane)),
        "oldest_wait_ms": lambda: int(1000 * scheduler.oldest_wait_s(lane, time.time())),
        "dispatched": lambda: scheduler.stats.dispatches[lane],
    }


def _outcomes(scheduler: Scheduler, state: State) -> Callable[[], int]:
    return lambda: scheduler.stats.outcomes[state]
