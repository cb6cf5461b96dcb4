"""The rendering thread: one denoising step after another, of whichever render's turn it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from include.contracts.dispatch import Lease
from include.contracts.workers import Completed
from include.worker.assignment import AbandonedError, Assignment
from include.worker.executor import URGENCY, Execution
from include.worker.leases import LeaseTable
from include.worker.memory import free_memory_mb
from include.worker.reporter import Reporter
from include.worker.slicing import Bounds, Turn, choose
from include.worker.step_times import StepTimes, Work
from include.worker.tools import Tools

log = logging.getLogger(__name__)

_OVER = object()
FREE_MB = 256.0  #: with less free memory nothing is put aside


class Running:
    """An execution that has begun, with where it paused."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.steps: Iterator[None] = execution.run()
        self.times_parked = 0
        self._parked_at: float | None = None
        self._parked_s = 0.0

    def park(self, now: float) -> None:
        self.times_parked += 1
        self._parked_at = now

    def resume(self, now: float) -> None:
        self._parked_s, self._parked_at = self.parked_s(now), None

    def parked_s(self, now: float) -> float:
        """Seconds it was put aside, in all."""
        return self._parked_s + (now - self._parked_at if self._parked_at is not None else 0.0)


class RenderLoop:
    """Begins waiting leases, lets them join or go before what runs, and resumes what was put aside.

    :param abandon: set to leave everything at the next step boundary
    """

    def __init__(
        self,
        leases: LeaseTable,
        reporter: Reporter,
        tools: Tools,
        abandon: threading.Event,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.leases = leases
        self.reporter = reporter
        self.tools = tools
        self.abandon = abandon
        self.bounds = bounds
        self.clock = clock
        self.times = StepTimes()
        self.completed = 0  #: requests
        self.handed_back: list[str] = []
        self._current: Running | None = None
        self._parked: list[Running] = []

    def run(self) -> None:
        """Until the lease table is closed and nothing is left, or ``abandon`` is set."""
        while self.leases.wait():
            self.reporter.busy.begin()
            try:
                while self.turn():
                    pass
            finally:
                self.reporter.busy.end()

    def turn(self) -> bool:
        """One step of one render; False where nobody wants one."""
        for parked in [parked for parked in self._parked if parked.execution.void]:
            self._step(parked)  # which ends it, for every one of its requests was cancelled
        if self._current is not None:
            self._let_join(self._current)
        chosen = self._choose()
        if chosen is None:
            return False
        if chosen is not self._current:
            self._switch_to(chosen)
        self._step(chosen)
        return True

    def _let_join(self, running: Running) -> None:
        for lease in self.leases.waiting():
            if running.execution.accepts(lease) and self.leases.start(lease.lease_id):
                with self._guarded(running):
                    running.execution.join(self._assignment(lease))

    def _choose(self) -> Running | None:
        now = self.clock()
        running = self._turn_of(self._current, now) if self._current is not None else None
        parked = [self._turn_of(one, now) for one in self._parked]
        waiting = [self._turn_of_lease(lease) for lease in self.leases.waiting()]
        room = not waiting or free_memory_mb(self.tools.device) >= FREE_MB
        chosen = choose(running, parked, waiting, self.bounds, room=room)
        return self._begin(chosen) if isinstance(chosen, Lease) else chosen

    def _begin(self, lease: Lease) -> Running | None:
        if not self.leases.start(lease.lease_id):
            return self._current or self._choose()  # revoked just now
        return Running(Execution(self._assignment(lease), self.tools))

    def _switch_to(self, chosen: Running) -> None:
        now = self.clock()
        if self._current is not None:
            self._current.park(now)
            self._parked.append(self._current)
            log.info("lease %s is put aside for lease %s", self._current.execution.lease.lease_id, chosen.execution.lease.lease_id)
        if chosen in self._parked:
            self._parked.remove(chosen)
            chosen.resume(now)
        self._current = chosen
        self._tell_parked()

    def _step(self, running: Running) -> None:
        before = running.execution.spent()
        with self._guarded(running):
            if next(running.steps, _OVER) is _OVER:
                self._end(running)
        after = running.execution.spent()
        self.times.observe(_work_of(running.execution.lease), after.item_steps - before.item_steps, after.device_s - before.device_s)

    @contextmanager
    def _guarded(self, running: Running) -> Iterator[None]:
        """Whatever happens to one render, the others go on."""
        try:
            yield
        except AbandonedError:
            self.handed_back += [assignment.lease.lease_id for assignment in running.execution.running]
            self._end(running)
        except Exception as error:
            log.exception("lease %s", running.execution.lease.lease_id)
            running.execution.fail_open(f"{type(error).__name__}: {error}")
            self._end(running)

    def _end(self, running: Running) -> None:
        for assignment in running.execution.assignments.values():
            self.completed += sum(isinstance(outcome, Completed) for outcome in assignment.outcomes)
            self.leases.finish(assignment.lease.lease_id)
        if running is self._current:
            self._current = None
        else:
            self._parked.remove(running)
        self._tell_parked()

    def _tell_parked(self) -> None:
        """Every render that is put aside leaves its slot to another."""
        if self.reporter.parked != len(self._parked):
            self.reporter.parked = len(self._parked)
            self.reporter.credit()

    def _assignment(self, lease: Lease) -> Assignment:
        return Assignment(lease, self.leases, self.reporter, self.abandon, self.tools.device)

    def _turn_of(self, running: Running, now: float) -> Turn[Running | Lease]:
        execution = running.execution
        return Turn(
            of=running,
            urgency=execution.urgency,
            left_s=self.times.estimate(_work_of(execution.lease), execution.item_steps),
            times=running.times_parked,
            parked_s=running.parked_s(now),
        )

    def _turn_of_lease(self, lease: Lease) -> Turn[Running | Lease]:
        item_steps = sum(task.images * task.steps_run for task in lease.tasks)
        return Turn(
            of=lease,
            urgency=URGENCY[lease.lane],
            left_s=self.times.estimate(_work_of(lease), item_steps),
            ready=self.tools.cache.has(lease.model),
        )


def _work_of(lease: Lease) -> Work:
    key = lease.batch_key
    return Work(key.model, key.width * key.height * (2 if key.guided else 1))
