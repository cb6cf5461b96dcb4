"""What the worker says to the router. Safe to use from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import ImageResult, Progress, Usage
from include.contracts.workers import Completed, Credit, Failed, Goodbye, Hello, RenderProgress, Started, WorkerMessage
from include.worker.device_health import DeviceHealth, DeviceReading, NoHealth
from include.worker.leases import LeaseTable
from include.worker.memory import free_memory_mb

CREDITS_ON_THEIR_WAY = 4
MAX_REFUSED = 64  #: versions that a heartbeat names


@dataclass(frozen=True, kw_only=True)
class Identity:
    worker_id: str
    incarnation: str
    cell: str
    pool: str
    device: str = "cpu"
    slots: int = 2
    max_batch: int = 4


class Sender(Protocol):
    def send(self, message: WorkerMessage, on_delivered: Callable[[], None] | None = None) -> None: ...


class Warm(Protocol):
    def warm(self) -> tuple[str, ...]:
        """Loaded versions as name/version."""

    def refused(self) -> dict[str, str]:
        """Versions that won't be served, each with the reason."""


class Reporter:
    """A delivered report of a lease renews it; an undelivered one must not."""

    def __init__(
        self,
        identity: Identity,
        sender: Sender,
        leases: LeaseTable,
        cache: Warm,
        clock: Callable[[], float] = time.time,
        health: DeviceHealth | None = None,
    ) -> None:
        self.identity = identity
        self.sender = sender
        self.leases = leases
        self.cache = cache
        self.clock = clock
        self.health = health or NoHealth()
        self.draining = False
        self.parked = 0  #: renders put aside; each leaves a slot to what it was put aside for
        self.delivered_at: float | None = None  #: when the newest delivered message was made
        self._busy = BusyMeter()
        self._unconfirmed = threading.Semaphore(CREDITS_ON_THEIR_WAY)

    @property
    def busy(self) -> BusyMeter:
        return self._busy

    def hello(self) -> None:
        warm = self.cache.warm()
        self._send(Hello, device=self.identity.device, slots=self.identity.slots, max_batch=self.identity.max_batch, warm_models=warm)

    def credit(self, *, heartbeat: bool = False) -> None:
        """The whole account. Where the broker is away, a few wait to be sent, not one for each second of its absence."""
        if not self._unconfirmed.acquire(blocking=False):
            return
        held = self.leases.held()
        reading = self.health.read() if heartbeat else DeviceReading()
        self._send(
            Credit,
            after=self._unconfirmed.release,
            renews=[lease.lease_id for lease in self.leases.waiting()],  # one that has begun lives by its progress alone
            slots=0 if self.draining else self.identity.slots + self.parked,
            parked=self.parked,
            max_batch=self.identity.max_batch,
            held=held,
            warm_models=self.cache.warm(),
            refused_models=tuple(self.cache.refused())[:MAX_REFUSED],
            free_memory_mb=free_memory_mb(self.identity.device),
            utilisation=self._busy.share() if heartbeat else None,
            gpu_utilisation=reading.gpu_utilisation,
            temperature_c=reading.temperature_c,
        )

    def started(self, lease_id: str) -> None:
        self._send(Started, renews=(lease_id,), lease_id=lease_id)

    def progress(self, lease_id: str, step: int, steps: int, previews: tuple[str, ...] = ()) -> None:
        self._send(RenderProgress, renews=(lease_id,), lease_id=lease_id, progress=Progress(step=step, steps=steps, previews=previews))

    def completed(
        self,
        lease_id: str,
        request_id: str,
        model_version: str,
        images: list[ImageResult],
        usage: Usage,
        *,
        cached: bool,
        degraded: tuple[str, ...] = (),
    ) -> Completed:
        made: Completed = self._send(
            Completed,
            lease_id=lease_id,
            request_id=request_id,
            model_version=model_version,
            images=tuple(images),
            usage=usage,
            cached=cached,
            degraded=degraded,
        )
        self.leases.record(made)
        return made

    def failed(
        self, lease_id: str, request_id: str | None, code: ReasonCode, message: str, *, retryable: bool, render_s: float = 0.0
    ) -> Failed:
        reason = Reason(code=code, message=message[:2000])
        made: Failed = self._send(Failed, lease_id=lease_id, request_id=request_id, reason=reason, retryable=retryable, render_s=render_s)
        self.leases.record(made)
        return made

    def again(self, lease_id: str) -> None:
        """Repeat a finished lease's outcomes."""
        for outcome in self.leases.outcomes(lease_id):
            self.sender.send(outcome)

    def goodbye(self, handed_back: tuple[str, ...]) -> None:
        self._send(Goodbye, handed_back=handed_back)

    def _send(self, kind: type[Any], *, renews: Sequence[str] = (), after: Callable[[], Any] | None = None, **content: Any) -> Any:
        now, identity = self.clock(), self.identity
        message = kind(
            worker_id=identity.worker_id, incarnation=identity.incarnation, cell=identity.cell, pool=identity.pool, at=now, **content
        )

        def on_delivered() -> None:
            self.delivered_at = max(now, self.delivered_at or 0.0)
            self.leases.renew(renews, now)
            if after:
                after()

        self.sender.send(message, on_delivered)
        return message


class BusyMeter:
    """Share of the time since the last question in which the worker rendered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._busy_s = 0.0
        self._since: float | None = None
        self._asked = clock()

    def begin(self) -> None:
        with self._lock:
            self._since = self.clock()

    def end(self) -> None:
        with self._lock:
            if self._since is not None:
                self._busy_s += self.clock() - self._since
                self._since = None

    @property
    def rendering(self) -> bool:
        with self._lock:
            return self._since is not None

    def share(self) -> float:
        with self._lock:
            now = self.clock()
            if self._since is not None:
                self._busy_s += now - self._since
                self._since = now
            share = self._busy_s / (now - self._asked) if now > self._asked else 0.0
            self._busy_s, self._asked = 0.0, now
            return min(1.0, share)
