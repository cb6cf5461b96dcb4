"""The router's own scheduler as a policy under test: the same code, the same messages, another clock."""

from __future__ import annotations

from typing import Any, Protocol

from include.contracts.control import ModelRoute, Policy
from include.contracts.dispatch import Lease, RenderTask
from include.contracts.events import Estimate, ImageResult, State, StatusEvent, Usage
from include.contracts.objects import MEDIA_TYPES, image_key
from include.contracts.workers import AnyWorkerMessage, Completed, Credit, Goodbye, Hello, Started
from include.scheduling.cell import Decision
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from include.scheduling.tuning import Tuning
from include.simulation.policy import Admitted, Arrival, Assigned, Ended, Move, SharesMoved, WorkerSpec
from include.simulation.promises import Promises
from include.simulation.scenario import POOL, Scenario

CELL, INCARNATION = "cell-0", "i-1"


class Listener(Protocol):
    """Who reads the topics beside the router."""

    def take_event(self, event: StatusEvent) -> None: ...

    def take_worker(self, message: AnyWorkerMessage) -> None: ...


class OwnPolicy:
    """Drives one :class:`Scheduler` through its public calls and reads its decisions.

    A request is told its bound by the Queued event where that says so (``trace["bound_s"]``), else by
    :class:`Promises`; the estimate is the event's.
    """

    def __init__(
        self, scenario: Scenario, *, table: Policy | None = None, tuning: Tuning | None = None, listener: Listener | None = None
    ) -> None:
        """``table`` replaces the scenario's policy. ``listener`` hears what the topics ``events`` and ``workers`` would carry."""
        scenario = scenario if table is None else scenario.under(table)
        self._listener = listener
        silent_after_s = 3 * scenario.heartbeat_s
        self.scheduler = Scheduler(
            cell=CELL,
            pools=frozenset({POOL}),
            store=MemoryStore(),
            tuning=tuning or Tuning(silent_after_s=silent_after_s, lost_after_s=silent_after_s),
        )
        self._promises = Promises(scenario)
        self._first: list[Move] = [SharesMoved(dict(scenario.policy.lane_floor))]
        messages: list[Policy | ModelRoute] = [scenario.policy, *scenario.routes]
        for message in messages:
            self.scheduler.on_control(message, message.to_json().decode("latin-1"), scenario.start)

    def join(self, worker: WorkerSpec, now: float) -> list[Move]:
        hello = Hello(**_identity(worker.id, worker.pool, now), slots=worker.slots, max_batch=worker.max_batch, warm_models=worker.warm)
        first, self._first = self._first, []
        return [*first, *self._hear(hello, now)]

    def alive(self, worker: WorkerSpec, held: tuple[str, ...], now: float) -> list[Move]:
        room = {"slots": worker.slots, "max_batch": worker.max_batch, "held": held, "warm_models": worker.warm}
        return self._hear(Credit(**_identity(worker.id, worker.pool, now), **room), now)

    def leave(self, worker: WorkerSpec, now: float) -> list[Move]:
        return self._hear(Goodbye(**_identity(worker.id, worker.pool, now)), now)

    def submit(self, arrival: Arrival, now: float) -> list[Move]:
        return self._moves(self.scheduler.submit(arrival.request, arrival.raw, arrival.service_class, now))

    def started(self, lease: Assigned, now: float) -> list[Move]:
        message = _STARTED.model_copy(update={"worker_id": lease.worker_id, "at": now, "lease_id": lease.lease_id})
        return self._moves(self.scheduler.on_worker(message, "", now))

    def completed(self, lease: Assigned, seconds: float, now: float) -> list[Move]:
        moves: list[Move] = []
        images = sum(task.images for task in lease.tasks)
        for task in lease.tasks:
            message = _completion(lease, task, seconds * task.images / images, seconds, now)
            moves += self._moves(self.scheduler.on_worker(message, "", now))
        return moves

    def tick(self, now: float) -> list[Move]:
        return self._moves(self.scheduler.tick(now))

    def batch_open(self, now: float) -> bool:
        return self.scheduler.batch_open()

    def _hear(self, message: Hello | Credit | Goodbye, now: float) -> list[Move]:
        if self._listener is not None:
            self._listener.take_worker(message)
        return self._moves(self.scheduler.on_worker(message, "", now))

    def _moves(self, decisions: list[Decision]) -> list[Move]:
        return [move for decision in decisions if (move := self._move(decision)) is not None]

    def _move(self, decision: Any) -> Move | None:
        if isinstance(decision, StatusEvent):
            if self._listener is not None:
                self._listener.take_event(decision)
            return self._of_event(decision)
        if isinstance(decision, Lease):
            for task in decision.tasks:
                self._promises.left(task.request_id)
            return Assigned(decision.lease_id, decision.worker_id, decision.model.key, decision.tasks)
        shares = getattr(decision, "after", None)
        return None if shares is None else SharesMoved(dict(shares))

    def _of_event(self, event: StatusEvent) -> Move | None:
        if event.state is State.QUEUED:
            return self._admitted(event)
        if not event.state.terminal:
            return None
        self._promises.left(event.request_id)
        return Ended(event.request_id, event.state, event.reason.retry_after_s if event.reason else None)

    def _admitted(self, event: StatusEvent) -> Admitted:
        assert event.lane is not None and event.tier is not None
        bound_s = self._promises.queued(event.request_id, event.lane, event.tenant, event.tier, event.trace["predicted_gpu_s"])
        estimate: Estimate | None = event.estimate
        likely = None if estimate is None else (estimate.low_s, estimate.high_s)
        return Admitted(event.request_id, event.trace.get("bound_s", bound_s), likely)


def _identity(worker_id: str, pool: str, now: float) -> dict[str, Any]:
    return {"worker_id": worker_id, "incarnation": INCARNATION, "cell": CELL, "pool": pool, "at": now}


# Messages are copies of checked ones: the scheduler reads fields and validates nothing again, and a million requests take several each.
_IMAGE = ImageResult(index=0, key="images/x", sha256="1" * 64, size_bytes=1, width=64, height=64, seed=0, media_type="image/png")
_USAGE = Usage(gpu_seconds=0.0, render_s=0.0, steps=0, backend="simulated", device="simulated")
_STARTED = Started(**_identity("w-0", POOL, 0.0), lease_id="lease-0")
_COMPLETED = Completed(
    **_identity("w-0", POOL, 0.0), lease_id="lease-0", request_id="r-0", model_version="1", images=(_IMAGE,), usage=_USAGE
)


def _completion(lease: Assigned, task: RenderTask, gpu_s: float, render_s: float, now: float) -> Completed:
    said = {
        "worker_id": lease.worker_id,
        "at": now,
        "lease_id": lease.lease_id,
        "request_id": task.request_id,
        "model_version": lease.model.split("/")[1],
        "images": tuple(_image(task, index) for index in range(task.images)),
        "usage": _USAGE.model_copy(update={"gpu_seconds": gpu_s, "render_s": render_s, "steps": task.steps}),
    }
    return _COMPLETED.model_copy(update=said)


def _image(task: RenderTask, index: int) -> ImageResult:
    said = {
        "index": index,
        "key": image_key(task.tenant, task.request_id, index, task.image_format),
        "width": task.width,
        "height": task.height,
        "seed": (task.seed + index) % 2**63,
        "media_type": MEDIA_TYPES[task.image_format],
    }
    return _IMAGE.model_copy(update=said)
