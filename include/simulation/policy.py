"""What the simulator asks of a scheduling policy, and what a policy answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from include.contracts.dispatch import RenderTask
from include.contracts.events import Lane, State
from include.contracts.requests import GenerationRequest, ServiceClass


@dataclass(slots=True, frozen=True, kw_only=True)
class Arrival:
    """One request as it comes in by its topic."""

    at: float  #: seconds since 1970
    request: GenerationRequest
    service_class: ServiceClass
    raw: str  #: the message on the topic


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerSpec:
    """What a worker says of itself when it starts."""

    id: str
    pool: str
    slots: int = 2  #: micro-batches it may hold: one runs, the rest wait
    max_batch: int = 1  #: requests in a micro-batch at most
    warm: tuple[str, ...] = ()  #: loaded versions as name/version


@dataclass(slots=True, frozen=True)
class Assigned:
    """A lease: a worker gets a micro-batch of tasks of one batch key."""

    lease_id: str
    worker_id: str
    model: str  #: name/version
    tasks: tuple[RenderTask, ...]


@dataclass(slots=True, frozen=True)
class Admitted:
    """A request waits in a lane now."""

    request_id: str
    bound_s: float | None = None  #: the wait that it was promised not to exceed
    likely_s: tuple[float, float] | None = None  #: the band that its wait was estimated to fall into


@dataclass(slots=True, frozen=True)
class Ended:
    """A request is over."""

    request_id: str
    state: State
    retry_after_s: float | None = None


@dataclass(slots=True, frozen=True)
class SharesMoved:
    """The guaranteed shares of device time are others now."""

    shares: dict[Lane, float]


Move = Assigned | Admitted | Ended | SharesMoved


class Policy(Protocol):
    """Events in, moves out, like the scheduler: no clock of its own."""

    def join(self, worker: WorkerSpec, now: float) -> list[Move]:
        """A worker starts."""

    def alive(self, worker: WorkerSpec, held: tuple[str, ...], now: float) -> list[Move]:
        """A worker's heartbeat with the leases it holds. Without slots it takes no further one."""

    def leave(self, worker: WorkerSpec, now: float) -> list[Move]:
        """A worker is gone; it holds nothing."""

    def submit(self, arrival: Arrival, now: float) -> list[Move]: ...

    def started(self, lease: Assigned, now: float) -> list[Move]:
        """A worker began to render it."""

    def completed(self, lease: Assigned, seconds: float, now: float) -> list[Move]:
        """A worker has rendered it, in that many device seconds. Answers with an :class:`Ended` for each of its requests."""

    def tick(self, now: float) -> list[Move]: ...

    def batch_open(self, now: float) -> bool:
        """Whether the batch topic is read on; else its requests stay there."""
