"""A scheduler over a memory store, a clock of the test's own, and workers that are only messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from include.contracts.control import Cancel, ModelDefaults, ModelRoute
from include.contracts.dead_letters import DeadLetter
from include.contracts.dispatch import Lease, ModelRef, RenderTask, Revoke
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import ImageResult, Progress, State, StatusEvent, Usage
from include.contracts.objects import MEDIA_TYPES, image_key
from include.contracts.requests import GenerationRequest, ServiceClass
from include.contracts.workers import Completed, Credit, Failed, Goodbye, Hello, RenderProgress, Started
from include.scheduling.cell import Decision
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from include.scheduling.tuning import Tuning

CELL, POOL = "cell-0", "standard"
START = 1_000_000.0
STEP_S = 0.25  #: of the route, so that a request of 4 steps without guidance is one device second
LEASE_S, MAX_ATTEMPTS = 30.0, 3


def route(name: str = "emoji", version: str = "1", *, at: float = START, serving: bool = True, **defaults: Any) -> ModelRoute:
    champion = ModelRef(name=name, version=version, digest="0" * 64, source="mlflow-artifacts:/1") if serving else None
    given = {"width": 32, "height": 32, "steps": 4, "guidance": 1.0, "step_s": STEP_S, **defaults}
    return ModelRoute(name=name, champion=champion, defaults=ModelDefaults(**given), is_default=name == "emoji", at=at)


def request(request_id: str, **fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"request_id": request_id, "tenant": "acme", "prompt": "a red heart", **fields})


def images_of(task: RenderTask) -> tuple[ImageResult, ...]:
    return tuple(
        ImageResult(
            index=index,
            key=image_key(task.tenant, task.request_id, index, task.image_format),
            sha256="1" * 64,
            size_bytes=1,
            width=task.width,
            height=task.height,
            seed=(task.seed + index) % 2**63,
            media_type=MEDIA_TYPES[task.image_format],
        )
        for index in range(task.images)
    )


class Desk:
    """Drives one scheduler. Everything it ever decided is in ``decisions``; each call returns what it decided there."""

    def __init__(self, store: MemoryStore | None = None, *, now: float = START, tuning: Tuning | None = None, routed: bool = True) -> None:
        self.store = store or MemoryStore()
        self.now = now
        self.tuning = tuning
        self.decisions: list[Decision] = []
        self.scheduler = self._built()
        if routed and store is None:
            self.control(route())

    def _built(self) -> Scheduler:
        return Scheduler(
            cell=CELL,
            pools=frozenset({POOL, "spot"}),
            store=self.store,
            lease_s=LEASE_S,
            max_attempts=MAX_ATTEMPTS,
            tuning=self.tuning,
        )

    def restart(self) -> None:
        """The process is gone and another one goes on from the store."""
        self.scheduler = self._built()

    def take(self, decisions: list[Decision]) -> list[Decision]:
        """The scheduler makes its messages without checks, so each of them is checked here."""
        for decision in decisions:
            assert type(decision).from_json(decision.to_json()) == decision
        self.decisions += decisions
        return decisions

    def submit(self, request_id: str, service_class: ServiceClass = ServiceClass.REALTIME, **fields: Any) -> list[Decision]:
        message = request(request_id, **fields)
        raw = message.to_json().decode("latin-1")
        return self.take(self.scheduler.submit(message, raw, service_class, self.now))

    def control(self, message: Any) -> list[Decision]:
        return self.take(self.scheduler.on_control(message, message.to_json().decode("latin-1"), self.now))

    def cancel(self, request_id: str, tenant: str = "acme", at: float | None = None) -> list[Decision]:
        return self.control(Cancel(request_id=request_id, tenant=tenant, at=self.now if at is None else at))

    def worker(self, message: Any) -> list[Decision]:
        return self.take(self.scheduler.on_worker(message, message.to_json().decode("latin-1"), self.now))

    def hello(self, worker_id: str = "w-0", incarnation: str = "i-1", **fields: Any) -> list[Decision]:
        return self.worker(Hello(**{**self._identity(worker_id, incarnation), "slots": 1, **fields}))

    def credit(self, worker_id: str = "w-0", incarnation: str = "i-1", held: Iterable[str] | None = None, **fields: Any) -> list[Decision]:
        """A heartbeat; by default the worker holds what it was given."""
        if held is None:
            held = [
                lease.id for lease in self.scheduler.leases().values() if (lease.worker_id, lease.incarnation) == (worker_id, incarnation)
            ]
        return self.worker(Credit(**{**self._identity(worker_id, incarnation), "held": tuple(held), "slots": 1, **fields}))

    def goodbye(self, worker_id: str = "w-0", incarnation: str = "i-1", **fields: Any) -> list[Decision]:
        return self.worker(Goodbye(**{**self._identity(worker_id, incarnation), **fields}))

    def started(self, lease: Lease) -> list[Decision]:
        return self.worker(Started(**self._holder(lease), lease_id=lease.lease_id))

    def progress(self, lease: Lease, step: int, **fields: Any) -> list[Decision]:
        progress = Progress(step=step, steps=4, **fields)
        return self.worker(RenderProgress(**self._holder(lease), lease_id=lease.lease_id, progress=progress))

    def complete(self, lease: Lease, request_id: str | None = None, **fields: Any) -> list[Decision]:
        """One request of a lease; without a name its first."""
        task = next(task for task in lease.tasks if request_id in (None, task.request_id))
        given = {"images": images_of(task), "usage": Usage(gpu_seconds=1.0, render_s=1.0, steps=task.steps), "model_version": "1", **fields}
        return self.worker(Completed(**self._holder(lease), lease_id=lease.lease_id, request_id=task.request_id, **given))

    def fail(self, lease: Lease, request_id: str | None = None, *, retryable: bool = True) -> list[Decision]:
        reason = Reason(code=ReasonCode.RENDER_FAILED, message="the pipeline raised")
        identity = self._holder(lease)
        return self.worker(Failed(**identity, lease_id=lease.lease_id, request_id=request_id, reason=reason, retryable=retryable))

    def tick(self, seconds: float = 0.0) -> list[Decision]:
        """Time passes in one step."""
        self.now += seconds
        return self.take(self.scheduler.tick(self.now))

    def live(self, seconds: float, *workers: str) -> None:
        """Time passes second by second, and these workers (incarnation i-1) say each time what they hold."""
        for _ in range(round(seconds)):
            self.tick(1.0)
            for worker_id in workers:
                self.credit(worker_id)

    def leased(self, request_id: str) -> Lease:
        """The last lease on a request."""
        return [lease for lease in leases(self.decisions) if any(task.request_id == request_id for task in lease.tasks)][-1]

    def states(self, request_id: str) -> list[State]:
        return [event.state for event in events(self.decisions) if event.request_id == request_id]

    def last(self, request_id: str) -> StatusEvent:
        return [event for event in events(self.decisions) if event.request_id == request_id][-1]

    def ends(self, request_id: str) -> list[State]:
        return [state for state in self.states(request_id) if state.terminal]

    def _identity(self, worker_id: str, incarnation: str) -> dict[str, Any]:
        return {"worker_id": worker_id, "incarnation": incarnation, "cell": CELL, "pool": POOL, "at": self.now}

    def _holder(self, lease: Lease) -> dict[str, Any]:
        return {**self._identity(lease.worker_id, lease.incarnation), "pool": lease.pool}


def events(decisions: list[Decision]) -> list[StatusEvent]:
    return [one for one in decisions if isinstance(one, StatusEvent)]


def leases(decisions: list[Decision]) -> list[Lease]:
    return [one for one in decisions if isinstance(one, Lease)]


def revokes(decisions: list[Decision]) -> list[Revoke]:
    return [one for one in decisions if isinstance(one, Revoke)]


def letters(decisions: list[Decision]) -> list[DeadLetter]:
    return [one for one in decisions if isinstance(one, DeadLetter)]
