"""The scheduler's levels and counts in Flink's metric groups."""

from __future__ import annotations

from collections.abc import Iterator

from pyflink.datastream import RuntimeContext
from pyflink.metrics import Counter, MetricGroup

from include.contracts.events import TERMINAL, Admission, Lane
from include.scheduling.scheduler import Scheduler

UPDATE_S = 0.5


class SchedulerMetrics:
    """Levels as counters that go up and down, updated by the scheduler's own thread. Times and device times are in ms, shares and errors in
    thousandths.

    Not gauges: Flink's reporters would call a Python gauge from threads of theirs, and when the interpreter is just being closed, as
    with each restart of the job, that call crashes the whole TaskManager.
    """

    def __init__(self, context: RuntimeContext, scheduler: Scheduler) -> None:
        self._group = context.get_metrics_group()
        self._scheduler = scheduler
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._shown: dict[tuple[str, ...], int] = {}
        self._updated_at = 0.0
        self._show(0.0)

    def update(self, now: float) -> None:
        """Show the scheduler as it is, at most every half second."""
        if now - self._updated_at >= UPDATE_S:
            self._updated_at = now
            self._show(now)

    def _show(self, now: float) -> None:
        for path, value in self._values(now):
            counter = self._counters.get(path)
            if counter is None:
                counter = self._counters[path] = _counter(self._group, path)
            counter.inc(value - self._shown.get(path, 0))
            self._shown[path] = value

    def _values(self, now: float) -> Iterator[tuple[tuple[str, ...], int]]:
        scheduler, stats = self._scheduler, self._scheduler.stats
        for lane in Lane:
            yield ("lane", lane.value, "depth"), scheduler.depth(lane)
            yield ("lane", lane.value, "queued_gpu_ms"), int(1000 * scheduler.queued_s(lane))
            yield ("lane", lane.value, "oldest_wait_ms"), int(1000 * scheduler.oldest_wait_s(lane, now))
            yield ("lane", lane.value, "dispatched"), stats.dispatches[lane]
            yield ("lane", lane.value, "share_permille"), int(1000 * scheduler.share(lane))
        for outcome in Admission:
            yield ("admission", outcome.value, "count"), stats.admissions[outcome]
        for state in TERMINAL:
            yield ("outcome", state.value, "count"), stats.outcomes[state]
        yield ("batch_open",), int(scheduler.batch_open())
        yield ("in_flight",), scheduler.in_flight()
        yield ("live_workers",), scheduler.live_workers(now)
        yield ("estimate_error_permille",), int(1000 * scheduler.estimate_error())
        yield ("cost_error_permille",), int(1000 * scheduler.cost_error())
        yield ("share_moves",), stats.share_moves
        yield ("retries",), stats.retries
        yield ("fenced",), stats.fenced
        yield ("dead_letters",), stats.dead_letters


def _counter(group: MetricGroup, path: tuple[str, ...]) -> Counter:
    *groups, name = path
    if groups:
        group = group.add_group(groups[0], groups[1])
    return group.counter(name)
