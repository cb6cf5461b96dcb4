"""What other systems do, in a few lines each, on the same workers and the same arrivals.

All three admit without a bound, as LitServe's and Celery's queues and Triton's ``max_queue_size: 0`` do by default; what no worker could
ever render is all they refuse. None degrades or expires anything, and all read the batch topic as it comes. All three fill micro-batches
with compatible requests from their own queue in its order, within the policy's budget, though Celery batches nothing and LitServe
collates without a batch key: so what differs here is the order alone, and none loses for the lack of a batcher.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from include.contracts.dispatch import RenderTask
from include.contracts.errors import RefusedError
from include.contracts.events import Lane, State
from include.scheduling.records import Shape
from include.simulation.policy import Admitted, Arrival, Assigned, Ended, Move, WorkerSpec
from include.simulation.scenario import POOL, Scenario


@dataclass(slots=True, frozen=True, eq=False)
class Waiting:
    task: RenderTask
    shape: Shape
    lane: Lane


class Order(Protocol):
    """Whose turn it is."""

    def push(self, waiting: Waiting) -> None: ...

    def pop(self) -> Waiting | None:
        """The next in turn, None when nothing waits."""

    def pop_alike(self, shape: Shape) -> Waiting | None:
        """The first in the queue that the last one came from which may share its micro-batch."""


class _Line:
    """First in, first out, with requests of a shape at hand."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._by_shape: dict[Shape, deque[int]] = {}
        self._number = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, waiting: Waiting) -> None:
        number = next(self._number)
        self._waiting[number] = waiting
        self._by_shape.setdefault(waiting.shape, deque()).append(number)

    def pop(self) -> Waiting:
        _, waiting = self._waiting.popitem(last=False)
        self._by_shape[waiting.shape].popleft()
        return waiting

    def pop_alike(self, shape: Shape) -> Waiting | None:
        numbers = self._by_shape.get(shape)
        return self._waiting.pop(numbers.popleft()) if numbers else None


class FifoOrder:
    """One queue for everybody: LitServe, BentoML."""

    def __init__(self) -> None:
        self._line = _Line()

    def push(self, waiting: Waiting) -> None:
        self._line.push(waiting)

    def pop(self) -> Waiting | None:
        return self._line.pop() if len(self._line) else None

    def pop_alike(self, shape: Shape) -> Waiting | None:
        return self._line.pop_alike(shape)


class StrictOrder:
    """Priority levels, the higher always first, first in first out inside each: Celery with prioritised queues, Triton, procrastinate."""

    def __init__(self) -> None:
        self._lines = {lane: _Line() for lane in Lane}
        self._last = Lane.HIGH

    def push(self, waiting: Waiting) -> None:
        self._lines[waiting.lane].push(waiting)

    def pop(self) -> Waiting | None:
        for lane, line in self._lines.items():
            if len(line):
                self._last = lane
                return line.pop()
        return None

    def pop_alike(self, shape: Shape) -> Waiting | None:
        return self._lines[self._last].pop_alike(shape)


@dataclass
class _Round:
    """Tenants of a lane, each with a line, in turn; who was served goes to the end."""

    lines: OrderedDict[str, _Line] = field(default_factory=OrderedDict)

    def push(self, waiting: Waiting) -> None:
        self.lines.setdefault(waiting.task.tenant, _Line()).push(waiting)

    def pop(self) -> Waiting:
        return self._served(next(iter(self.lines)))

    def pop_alike(self, shape: Shape) -> Waiting | None:
        for tenant, line in self.lines.items():
            found = line.pop_alike(shape)
            if found is not None:
                self._turn(tenant)
                return found
        return None

    def _served(self, tenant: str) -> Waiting:
        waiting = self.lines[tenant].pop()
        self._turn(tenant)
        return waiting

    def _turn(self, tenant: str) -> None:
        self.lines.move_to_end(tenant)
        if not len(self.lines[tenant]):
            del self.lines[tenant]


class CountRoundRobinOrder:
    """Priority levels, and inside each one request of each tenant in turn, whatever it costs: InvokeAI's queue, llm-d's round robin."""

    def __init__(self) -> None:
        self._rounds = {lane: _Round() for lane in Lane}
        self._last = Lane.HIGH

    def push(self, waiting: Waiting) -> None:
        self._rounds[waiting.lane].push(waiting)

    def pop(self) -> Waiting | None:
        for lane, turn in self._rounds.items():
            if turn.lines:
                self._last = lane
                return turn.pop()
        return None

    def pop_alike(self, shape: Shape) -> Waiting | None:
        return self._rounds[self._last].pop_alike(shape)


class BaselinePolicy:
    """An order, and whichever worker holds least. Requests become tasks by the router's own catalog."""

    def __init__(self, scenario: Scenario, order: Callable[[], Order]) -> None:
        self._catalog, self._lanes = scenario.catalog(), scenario.lanes()
        self._times, self._batch_s = scenario.service_times(0), scenario.policy.batch_s
        self._models = {route.name: route.champion.key for route in scenario.routes if route.champion is not None}
        self._order = order()
        self._waiting = 0
        self._workers: dict[str, WorkerSpec] = {}
        self._held: dict[str, int] = {}
        self._leases = count(1)

    def join(self, worker: WorkerSpec, now: float) -> list[Move]:
        self._workers[worker.id], self._held[worker.id] = worker, 0
        return self._dispatch()

    def alive(self, worker: WorkerSpec, held: tuple[str, ...], now: float) -> list[Move]:
        self._workers[worker.id] = worker
        return []

    def leave(self, worker: WorkerSpec, now: float) -> list[Move]:
        del self._workers[worker.id], self._held[worker.id]
        return []

    def submit(self, arrival: Arrival, now: float) -> list[Move]:
        try:
            resolved = self._catalog.resolve(arrival.request)
        except RefusedError:
            return [Ended(arrival.request.request_id, State.REFUSED)]
        task, model = resolved.task, resolved.route.name
        shape = (model, task.width, task.height, task.steps, task.guided, task.variant)
        self._order.push(Waiting(task, shape, self._lanes[arrival.service_class, arrival.request.tier]))
        self._waiting += 1
        return [Admitted(task.request_id), *self._dispatch()]

    def started(self, lease: Assigned, now: float) -> list[Move]:
        return []

    def completed(self, lease: Assigned, seconds: float, now: float) -> list[Move]:
        self._held[lease.worker_id] -= 1
        return [*(Ended(task.request_id, State.COMPLETED) for task in lease.tasks), *self._dispatch()]

    def tick(self, now: float) -> list[Move]:
        return []

    def batch_open(self, now: float) -> bool:
        return True

    def _dispatch(self) -> list[Move]:
        moves: list[Move] = []
        while self._waiting and (worker := self._roomiest()) is not None:
            head = self._order.pop()
            assert head is not None
            tasks = self._batch(head, worker.max_batch)
            self._waiting -= len(tasks)
            self._held[worker.id] += 1
            moves.append(Assigned(f"lease-{next(self._leases)}", worker.id, self._models[head.shape[0]], tasks))
        return moves

    def _batch(self, head: Waiting, at_most: int) -> tuple[RenderTask, ...]:
        tasks = [head.task]
        while len(tasks) < at_most and self._fits(head, len(tasks) + 1) and (found := self._order.pop_alike(head.shape)) is not None:
            tasks.append(found.task)
        return tuple(tasks)

    def _fits(self, head: Waiting, size: int) -> bool:
        """Whether so many like it stay within the policy's budget of a micro-batch."""
        model, width, height, steps, guided, _ = head.shape
        return self._times.expected(model, width * height, steps, guided, size * head.task.images, POOL) <= self._batch_s

    def _roomiest(self) -> WorkerSpec | None:
        name = min(self._held, key=self._held.__getitem__, default=None)
        return self._workers[name] if name is not None and self._held[name] < self._workers[name].slots else None
