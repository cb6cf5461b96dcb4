"""What waits, what arrives and what workers do, from the messages on the topics ``events`` and ``workers``. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

from include.autoscale.sizing import Demand, PoolNow, Snapshot
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State, StatusEvent
from include.contracts.requests import ServiceClass
from include.contracts.workers import AnyWorkerMessage, Credit, Goodbye, Hello

RATE_TAU_S = 60.0  #: seconds in which an arrival's weight in the rate falls to 1/e; Knative's stable window is as long
PANIC_TAU_S, PANIC = 6.0, 2.0  #: its panic window and threshold: so many times the stable rate is a burst
STARTS_S = 3.0  #: a burst whose requests have come for so long starts workers for all of it: what comes at once is over by then
BELIEVED_S = 10.0  #: and one that has for so long is taken to stay: until then, workers that it started go as soon as it is over
USE_TAU_S = 20.0  #: the same for a worker's utilisation
SILENT_S = 15.0  #: a worker not heard for so long does not count
TOLD_S = 60.0  #: for so long counts what the scheduler told of its queue and we had not seen
TRUTH_TAU_S = 300.0  #: the same for what completions cost against their predictions
DOUBT_S, MOST_WRONG = 10.0, 4.0  #: device seconds of completions that weigh as much as the prior, and how far predictions may be off
SLACK_S, SLACK = 1.0, 0.02  #: device seconds, and share, that our sum of a lane may differ from the scheduler's

_Group = tuple[Lane, frozenset[str]]


@dataclass(slots=True, eq=False)
class _Request:
    group: _Group
    predicted_s: float
    first_at: float  #: when it first came into its lane
    queued: bool = True  #: in its lane; else rendering, or between two attempts
    waiting: bool = True  #: not rendering
    since: float = 0.0  #: when it began to render
    pool: str = ""


@dataclass(slots=True, eq=False)
class _Worker:
    pool: str
    incarnation: str
    heard_at: float
    held: int = 0
    slots: int = 1
    utilisation: float | None = None


@dataclass(slots=True)
class _Rate:
    """Device seconds a second, decayed."""

    tau_s: float = RATE_TAU_S
    value: float = 0.0
    at: float = 0.0

    def add(self, seconds: float, now: float) -> None:
        self.value, self.at = self.read(now) + seconds / self.tau_s, max(now, self.at)

    def read(self, now: float) -> float:
        return self.value * exp(min(0.0, self.at - now) / self.tau_s)


@dataclass(slots=True)
class _Arrivals:
    """The stable rate, and a burst on top of it.

    Many requests at once are that much work, and not the first second of a flood: a burst counts for more the longer its requests have
    come, and is taken to last as much longer as it has by now.
    """

    stable: _Rate = field(default_factory=_Rate)
    recent: _Rate = field(default_factory=lambda: _Rate(tau_s=PANIC_TAU_S))
    burst_since: float | None = None
    last_at: float = 0.0  #: when the newest came

    def add(self, seconds: float, now: float) -> None:
        self.stable.add(seconds, now)
        self.recent.add(seconds, now)
        self.last_at = max(now, self.last_at)
        self._look(now)

    def burst(self, now: float) -> tuple[float, float]:
        """Device seconds a second that it is above the stable rate, and for how many seconds its requests have come."""
        self._look(now)
        if self.burst_since is None:
            return 0.0, 0.0
        return self.recent.read(now) - self.stable.read(now), max(0.0, self.last_at - self.burst_since)

    def _look(self, now: float) -> None:
        if self.recent.read(now) < PANIC * self.stable.read(now):
            self.burst_since = None
        elif self.burst_since is None:
            self.burst_since = now


@dataclass(slots=True)
class _Truth:
    """What completions cost against what was predicted: micro-batches make requests cheaper, and predictions are of the past."""

    actual: _Rate = field(default_factory=lambda: _Rate(tau_s=TRUTH_TAU_S))
    predicted: _Rate = field(default_factory=lambda: _Rate(tau_s=TRUTH_TAU_S))

    def add(self, actual_s: float, predicted_s: float, now: float) -> None:
        self.actual.add(actual_s, now)
        self.predicted.add(predicted_s, now)

    def factor(self, now: float) -> float:
        """Actual over predicted; 1 before anything is known, and never off by more than :data:`MOST_WRONG`."""
        doubt = DOUBT_S / TRUTH_TAU_S
        found = (self.actual.read(now) + doubt) / (self.predicted.read(now) + doubt)
        return min(MOST_WRONG, max(1 / MOST_WRONG, found))


@dataclass(slots=True)
class _Told:
    """Work of a lane that the scheduler counts and we have not seen come."""

    seconds: float
    group: _Group
    at: float


@dataclass(slots=True)
class _Typical:
    """What a request of a service class was like lately; a refused one does not say what it would have cost."""

    group: _Group
    predicted_s: float


class DemandTracker:
    """Follows every request from its Queued event to its end, and every worker's heartbeats.

    Each Queued event also tells the device seconds in its lane as the scheduler counts them. What we miss, because it came before we
    began to read, is added until the next such event; what we have too much, because its end was lost, is dropped, oldest first.

    A request refused because its lane is full would have been work for more workers, so it counts as an arrival; one that the router has
    left in the batch topic waits too. Both are taken to be like those of their service class that came lately.
    """

    def __init__(self, started_at: float) -> None:
        self._requests: dict[str, _Request] = {}
        self._queued: dict[Lane, dict[str, _Request]] = {lane: {} for lane in Lane}
        self._queued_s = dict.fromkeys(Lane, 0.0)
        self._told: dict[Lane, _Told] = {}
        self._rates: dict[_Group, _Arrivals] = {}
        self._typical: dict[ServiceClass, _Typical] = {}
        self._truth = _Truth()
        self._workers: dict[str, _Worker] = {}
        self._started_at = started_at
        self._worked_at: dict[str, float] = {}
        self.batch_behind = 0  #: messages of the batch topic that the router has not read

    def take_event(self, event: StatusEvent) -> None:
        """Any event; those that say nothing about waiting are ignored."""
        if event.state is State.QUEUED:
            self._enter(event)
        elif event.state is State.PROCESSING:
            self._begin(event)
        elif event.state is State.RETRYING:
            self._set_aside(event)
        else:
            self._end(event)

    def take_worker(self, message: AnyWorkerMessage) -> None:
        if isinstance(message, Goodbye):
            self._workers.pop(message.worker_id, None)
            return
        worker = self._workers.get(message.worker_id)
        if worker is None or isinstance(message, Hello) or worker.pool != message.pool:
            worker = self._workers[message.worker_id] = _Worker(message.pool, message.incarnation, message.at)
        if isinstance(message, Credit) and worker.incarnation == message.incarnation:
            _note(worker, message)
        worker.heard_at = max(worker.heard_at, message.at)

    def snapshot(self, now: float, found: Mapping[str, PoolNow], objectives: Mapping[Lane, float]) -> Snapshot:
        """:param found: each pool's workers as its driver sees them; what they do is added to it"""
        self._forget_silent(now)
        demands = self._demands(now)
        pools = {pool: self._pool(pool, state, now) for pool, state in found.items()}
        return Snapshot(at=now, demands=tuple(demands), pools=pools, objectives=objectives)

    def waiting_s(self, lane: Lane) -> float:
        """Predicted device seconds in a lane, as far as seen."""
        return self._queued_s[lane]

    def _enter(self, event: StatusEvent) -> None:
        predicted_s = event.trace.get("predicted_gpu_s")
        if event.lane is None or not isinstance(predicted_s, int | float):
            return
        group = (event.lane, frozenset(event.trace.get("pools", ())))
        known = self._requests.get(event.request_id)
        if known is None or not event.attempt:
            self._rate(group).add(predicted_s, event.at)
            self._remember_typical(event, group, predicted_s)
        self._leave(event.request_id)
        request = _Request(group, predicted_s, known.first_at if known else event.at)
        self._requests[event.request_id] = self._queued[event.lane][event.request_id] = request
        self._queued_s[event.lane] += predicted_s
        told = event.trace.get("queued_gpu_s")
        if isinstance(told, int | float):
            self._reconcile(group, told, event.at)

    def _begin(self, event: StatusEvent) -> None:
        if event.pool is not None:
            self._worked_at[event.pool] = max(event.at, self._worked_at.get(event.pool, 0.0))
        request = self._leave(event.request_id)
        if request is not None and request.waiting:
            request.waiting, request.since, request.pool = False, event.at, event.pool or ""

    def _set_aside(self, event: StatusEvent) -> None:
        request = self._leave(event.request_id)
        if request is not None:
            request.waiting = True

    def _end(self, event: StatusEvent) -> None:
        self._leave(event.request_id)
        request = self._requests.pop(event.request_id, None)
        if request is not None and event.usage is not None and not event.usage.cache_hits:
            self._truth.add(event.usage.gpu_seconds, request.predicted_s, event.at)
        refused = event.state is State.REFUSED and event.reason is not None and event.reason.code is ReasonCode.OVERLOADED
        if refused and event.service_class is not None and (typical := self._typical.get(event.service_class)) is not None:
            self._rate(typical.group).add(typical.predicted_s, event.at)

    def _leave(self, request_id: str) -> _Request | None:
        """Out of its lane; the request, if it is known."""
        request = self._requests.get(request_id)
        if request is not None and request.queued:
            request.queued = False
            del self._queued[request.group[0]][request_id]
            self._queued_s[request.group[0]] -= request.predicted_s
        return request

    def _reconcile(self, group: _Group, told_s: float, now: float) -> None:
        lane, slack_s = group[0], SLACK_S + SLACK * told_s
        self._told.pop(lane, None)
        if told_s > self._queued_s[lane] + slack_s:
            self._told[lane] = _Told(told_s - self._queued_s[lane], group, now)
        while self._queued_s[lane] > told_s + slack_s and len(self._queued[lane]) > 1:
            lost = next(iter(self._queued[lane]))
            self._leave(lost)
            del self._requests[lost]

    def _remember_typical(self, event: StatusEvent, group: _Group, predicted_s: float) -> None:
        if event.service_class is not None:
            known = self._typical.get(event.service_class)
            mean_s = predicted_s if known is None else known.predicted_s + 0.1 * (predicted_s - known.predicted_s)
            self._typical[event.service_class] = _Typical(group, mean_s)

    def _rate(self, group: _Group) -> _Arrivals:
        return self._rates.setdefault(group, _Arrivals())

    def _forget_silent(self, now: float) -> None:
        silent = [name for name, worker in self._workers.items() if now - worker.heard_at > SILENT_S]
        for name in silent:
            del self._workers[name]

    def _demands(self, now: float) -> list[Demand]:
        waiting: dict[_Group, tuple[float, float]] = {}
        for request in self._requests.values():
            if request.waiting:
                seconds, oldest = waiting.get(request.group, (0.0, now))
                waiting[request.group] = (seconds + request.predicted_s, min(oldest, request.first_at))
        for told in self._told.values():
            if now - told.at <= TOLD_S:
                seconds, oldest = waiting.get(told.group, (0.0, now))
                waiting[told.group] = (seconds + told.seconds, oldest)
        behind = self._typical.get(ServiceClass.BATCH)
        if behind is not None and self.batch_behind:
            seconds, oldest = waiting.get(behind.group, (0.0, now))
            waiting[behind.group] = (seconds + self.batch_behind * behind.predicted_s, oldest)
        return [self._demand(group, *waiting.get(group, (0.0, now)), now) for group in self._rates.keys() | waiting.keys()]

    def _demand(self, group: _Group, waiting_s: float, oldest_at: float, now: float) -> Demand:
        arrivals, factor = self._rate(group), self._truth.factor(now)
        burst, lasted_s = arrivals.burst(now)
        return Demand(
            lane=group[0],
            pools=group[1],
            waiting_s=waiting_s * factor,
            oldest_s=max(0.0, now - oldest_at),
            rate=arrivals.stable.read(now) * factor,
            burst=burst * min(1.0, lasted_s / STARTS_S) * factor,
            lasting=burst * min(1.0, lasted_s / BELIEVED_S) * factor,
            surge_s=burst * lasted_s * factor,
        )

    def _pool(self, pool: str, found: PoolNow, now: float) -> PoolNow:
        heard = {name: worker for name, worker in self._workers.items() if worker.pool == pool and worker.slots}
        running = min(found.running, len(heard))
        rendering = (one for one in self._requests.values() if one.pool == pool and not one.waiting)
        held = sum(1 for worker in heard.values() if worker.held)
        if held:
            self._worked_at[pool] = now
        used = [worker.utilisation for worker in heard.values() if worker.utilisation is not None]
        return PoolNow(
            running=running,
            # A process that does not say that it takes work yet is as good as one that is being started.
            starting=found.starting + found.running - running,
            draining=found.draining,
            busy=min(held, running),
            utilisation=sum(used) / len(used) if used else None,
            in_flight_s=sum(max(0.0, one.predicted_s - (now - one.since)) for one in rendering),
            idle_s=now - self._worked_at.get(pool, self._started_at),
            idle_workers=tuple(sorted(name for name, worker in heard.items() if not worker.held)),
        )


def _note(worker: _Worker, message: Credit) -> None:
    """Take over a heartbeat. Without a measured utilisation, whether it holds a lease is what is known of it."""
    used = message.utilisation if message.utilisation is not None else float(bool(message.held))
    kept = exp(min(0.0, worker.heard_at - message.at) / USE_TAU_S)
    worker.utilisation = used if worker.utilisation is None else kept * worker.utilisation + (1 - kept) * used
    worker.held, worker.slots = len(message.held), message.slots
