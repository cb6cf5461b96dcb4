"""One run: a policy, a fleet and arrivals on one fake clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from include.contracts.requests import ServiceClass
from include.simulation.clock import Clock
from include.simulation.ledger import Columns, Ledger, Record
from include.simulation.policy import Admitted, Arrival, Assigned, Ended, Move, Policy, WorkerSpec
from include.simulation.scenario import Scenario
from include.simulation.workers import SimulatedWorker

Watch = Callable[[float], None]


class Simulation:
    """Discrete events. Messages between policy and workers take ``link_s`` each way; a request reaches the policy as it arrives.

    The batch topic is a queue that is read only while the policy's ``batch_open`` says so, first in first out, as Kafka is; what waits
    there has arrived, so its wait counts.
    """

    def __init__(
        self,
        scenario: Scenario,
        policy: Policy,
        *,
        seed: int = 0,
        watch: Watch | None = None,
        fleet: Iterable[WorkerSpec] | None = None,
    ) -> None:
        """``watch`` is called with the time at every tick; ``fleet`` is there from the start, without it the scenario's."""
        self._scenario, self._policy, self._watch = scenario, policy, watch
        self._clock = Clock(scenario.start)
        self._times = scenario.service_times(seed)
        self._lanes = scenario.lanes()
        self._workers = {spec.id: SimulatedWorker(spec) for spec in (scenario.fleet() if fleet is None else fleet)}
        self._topic: deque[Arrival] = deque()
        self.ledger = Ledger()

    def run(self, arrivals: Iterable[Arrival], seconds: float) -> Columns:
        """Simulate so many seconds from the scenario's start, and say what became of every request that arrived in them."""
        for worker in self._workers.values():
            self._clock.at(self._clock.now, self._join, worker.spec)
        self._clock.at(self._clock.now, self._tick)
        self._clock.at(self._clock.now + self._scenario.heartbeat_s, self._heartbeats)
        self._next_arrival(iter(arrivals))
        self._clock.run(self._scenario.start + seconds)
        for worker in self._workers.values():
            self._book_running(worker)
        return self.ledger.close(self._clock.now)

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock.now

    def plan(self, in_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Let something happen so many seconds from now."""
        self._clock.at(self._clock.now + in_s, action, *arguments)

    def add(self, spec: WorkerSpec) -> None:
        """A worker joins now. Raises :class:`ValueError` where one of that id is there."""
        if spec.id in self._workers:
            raise ValueError(f"worker {spec.id} is there already")
        self._workers[spec.id] = SimulatedWorker(spec)
        self._join(spec)

    def drain(self, worker_id: str, gone: Callable[[str], None]) -> None:
        """A worker takes no further lease from now on; it finishes what it holds and what is on its way to it, then it is ``gone``."""
        worker = self._workers[worker_id]
        worker.draining = True
        link_s = self._scenario.link_s
        self._clock.at(self._clock.now + link_s, self._alive, replace(worker.spec, slots=0), worker.held)
        # By then the scheduler has read that, and a lease that it gave out before has arrived.
        self._clock.at(self._clock.now + 3 * link_s, self._leave_if_empty, worker, gone)

    def _leave_if_empty(self, worker: SimulatedWorker, gone: Callable[[str], None]) -> None:
        if worker.held:
            self._clock.at(self._clock.now + self._scenario.tick_s, self._leave_if_empty, worker, gone)
            return
        # Its goodbye comes after the last it completed.
        self._clock.at(self._clock.now + 2 * self._scenario.link_s, self._leave, worker, gone)

    def _leave(self, worker: SimulatedWorker, gone: Callable[[str], None]) -> None:
        del self._workers[worker.spec.id]
        self._apply(self._policy.leave(worker.spec, self._clock.now))
        gone(worker.spec.id)

    def _join(self, spec: WorkerSpec) -> None:
        self._apply(self._policy.join(spec, self._clock.now))

    def _tick(self) -> None:
        now = self._clock.now
        self._apply(self._policy.tick(now))
        if self._watch is not None:
            self._watch(now)
        self._clock.at(now + self._scenario.tick_s, self._tick)

    def _heartbeats(self) -> None:
        now = self._clock.now
        for worker in self._workers.values():
            spec = replace(worker.spec, slots=0) if worker.draining else worker.spec
            self._clock.at(now + self._scenario.link_s, self._alive, spec, worker.held)
        self._clock.at(now + self._scenario.heartbeat_s, self._heartbeats)

    def _alive(self, spec: WorkerSpec, held: tuple[str, ...]) -> None:
        if spec.id in self._workers:
            self._apply(self._policy.alive(spec, held, self._clock.now))

    def _next_arrival(self, arrivals: Iterator[Arrival]) -> None:
        arrival = next(arrivals, None)
        if arrival is not None:
            self._clock.at(arrival.at, self._arrive, arrival, arrivals)

    def _arrive(self, arrival: Arrival, arrivals: Iterator[Arrival]) -> None:
        request = arrival.request
        lane = self._lanes[arrival.service_class, request.tier]
        self.ledger.arrive(request.request_id, Record(lane, request.tier, request.tenant, arrived=self._clock.now))
        self._next_arrival(arrivals)
        if arrival.service_class is ServiceClass.BATCH and (self._topic or not self._policy.batch_open(self._clock.now)):
            self._topic.append(arrival)
        else:
            self._apply(self._policy.submit(arrival, self._clock.now))

    def _deliver(self, lease: Assigned) -> None:
        worker = self._workers[lease.worker_id]
        worker.take(lease)
        self._start(worker)

    def _start(self, worker: SimulatedWorker) -> None:
        lease = worker.start_next(self._clock.now)
        if lease is None:
            return
        now, link_s = self._clock.now, self._scenario.link_s
        seconds = self._service_s(lease, worker)
        for task in lease.tasks:
            self.ledger.open[task.request_id].started = now
        self._clock.at(now + link_s, self._started, lease)
        self._clock.at(now + seconds, self._finish, worker, seconds)

    def _started(self, lease: Assigned) -> None:
        self._apply(self._policy.started(lease, self._clock.now))

    def _service_s(self, lease: Assigned, worker: SimulatedWorker) -> float:
        first, images = lease.tasks[0], sum(task.images for task in lease.tasks)
        model, pixels = lease.model.split("/")[0], first.width * first.height
        return self._times.actual(first.request_id, model, pixels, first.steps, first.guided, images, worker.spec.pool)

    def _finish(self, worker: SimulatedWorker, seconds: float) -> None:
        now, lease = self._clock.now, worker.finish()
        self._book(lease, now, seconds)
        self._start(worker)
        self._clock.at(now + self._scenario.link_s, self._completed, lease, seconds)

    def _completed(self, lease: Assigned, seconds: float) -> None:
        self._apply(self._policy.completed(lease, seconds, self._clock.now))

    def _book(self, lease: Assigned, now: float, seconds: float) -> None:
        images = sum(task.images for task in lease.tasks)
        for task in lease.tasks:
            record = self.ledger.open[task.request_id]
            record.rendered, record.gpu_s = now, seconds * task.images / images

    def _book_running(self, worker: SimulatedWorker) -> None:
        """The run ends in the middle of a render."""
        if worker.running is not None:
            now = self._clock.now
            self._book(worker.running, now, now - worker.started_at)

    def _apply(self, moves: list[Move]) -> None:
        """What the policy decided happens; then the batch topic is read as far as the policy lets it."""
        now = self._clock.now
        for move in moves:
            self._apply_one(move, now)
        while self._topic and self._policy.batch_open(now):
            for move in self._policy.submit(self._topic.popleft(), now):
                self._apply_one(move, now)

    def _apply_one(self, move: Move, now: float) -> None:
        if isinstance(move, Assigned):
            for task in move.tasks:
                record = self.ledger.open[task.request_id]
                record.dispatched, record.degraded = now, bool(task.degraded)
            self._clock.at(now + self._scenario.link_s, self._deliver, move)
        elif isinstance(move, Ended):
            self.ledger.end(move.request_id, move.state, now)
        elif isinstance(move, Admitted):
            self._admit(move, now)
        else:
            self.ledger.shares.append((now, move.shares))

    def _admit(self, move: Admitted, now: float) -> None:
        record = self.ledger.open[move.request_id]
        record.admitted = now
        if move.bound_s is not None:
            record.bound_s = move.bound_s
        if move.likely_s is not None:
            record.likely_low_s, record.likely_high_s = move.likely_s
