"""What has become of a lease: each of its requests until it is answered."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from include.contracts.dispatch import Lease, RenderTask
from include.contracts.errors import ReasonCode
from include.contracts.events import ImageResult, Usage
from include.contracts.workers import Completed, Failed
from include.worker.leases import LeaseTable
from include.worker.pipeline import Pipeline
from include.worker.render import Item
from include.worker.reporter import Reporter

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.5
REPORTS_A_RENDER = 5


class AbandonedError(Exception):
    """The worker must end now: what is left of its leases is handed back."""


@dataclass
class Work:
    """What has become of one request of the lease so far."""

    task: RenderTask
    items: list[Item]
    images: list[ImageResult] = field(default_factory=list)
    unrendered: int = 0  #: images that were there already or came from a cache
    hits: dict[str, None] = field(default_factory=dict)  #: caches that saved work, each once
    degraded: tuple[str, ...] = ()  #: what was given up beyond what the task says
    notes: dict[str, None] = field(default_factory=dict)
    closed: bool = False  #: completed, failed or cancelled

    @property
    def missing(self) -> list[Item]:
        """The items whose image is not there."""
        there = {image.index for image in self.images}
        return [item for item in self.items if item.index not in there]

    def take(self, image: ImageResult, cache: str = "") -> None:
        """An image that is stored; ``cache`` names what saved the work of rendering it, if anything did."""
        self.images.append(image)
        if cache:
            self.unrendered += 1
            self.hits[cache] = None


class Assignment:
    """One lease that runs. Says everything that is to be said about its requests, each exactly once.

    :param abandon: set to leave it at the next step boundary
    """

    def __init__(self, lease: Lease, leases: LeaseTable, reporter: Reporter, abandon: threading.Event, device: str = "cpu") -> None:
        self.lease = lease
        self.leases = leases
        self.reporter = reporter
        self.abandon = abandon
        self.device = device
        self.pipeline: Pipeline | None = None  #: what renders it, once that is loaded
        self.work = {
            task.request_id: Work(task, [Item(task, index, lease.lease_id) for index in range(task.images)]) for task in lease.tasks
        }
        self.began = time.perf_counter()
        self.reported_at = 0.0
        self.outcomes: list[Completed | Failed] = []
        self.lost = ""  #: why it is somebody else's by now, empty while it is ours
        self.finished = False

    @property
    def open(self) -> list[Work]:
        """Requests that are neither answered nor cancelled, of a lease that is not lost."""
        if self.lost:
            return []
        cancelled = self.leases.revoked(self.lease.lease_id)
        return [work for request_id, work in self.work.items() if not work.closed and request_id not in cancelled]

    def wants(self, work: Work) -> bool:
        """Whether somebody still waits for that request of it."""
        return work in self.open and not self.leases.expired(self.lease.lease_id)

    @property
    def wanted(self) -> bool:
        """Whether any of it is still to be rendered here."""
        return bool(self.open) and not self.abandon.is_set() and not self.leases.expired(self.lease.lease_id)

    def check(self) -> None:
        """Lose the lease if it has expired. Raises :class:`AbandonedError` where the worker ends."""
        if self.abandon.is_set():
            raise AbandonedError("the worker ends")
        self.lose_if_expired()

    def lose_if_expired(self) -> None:
        if not self.lost and self.leases.expired(self.lease.lease_id):
            self.fail_open(ReasonCode.LEASE_EXPIRED, "it expired without renewal", retryable=True)
            self.lost = "it expired without renewal"

    def complete(self, work: Work) -> None:
        work.closed = True
        usage = Usage(
            gpu_seconds=sum(item.device_s for item in work.items),
            render_s=time.perf_counter() - self.began,
            steps=max(item.ran for item in work.items),
            backend=self.pipeline.backend if self.pipeline is not None else "none",
            device=self.device,
            cache_hits=tuple(work.hits),
            notes=tuple(work.notes),
        )
        outcome = self.reporter.completed(
            self.lease.lease_id,
            work.task.request_id,
            self.lease.model.version,
            sorted(work.images, key=lambda image: image.index),
            usage,
            cached=work.unrendered == work.task.images,
            degraded=work.degraded,
        )
        self.outcomes.append(outcome)

    def fail(self, work: Work, code: ReasonCode, message: str, *, retryable: bool) -> None:
        if work.closed:
            return
        work.closed = True
        outcome = self.reporter.failed(
            self.lease.lease_id,
            work.task.request_id,
            code,
            message,
            retryable=retryable,
            render_s=time.perf_counter() - self.began,
        )
        self.outcomes.append(outcome)

    def fail_open(self, code: ReasonCode, message: str, *, retryable: bool) -> None:
        for work in self.open:
            self.fail(work, code, message, retryable=retryable)

    def note(self, words: str) -> None:
        """Something out of the ordinary that every open request's completion is to tell."""
        for work in self.open:
            work.notes[words] = None

    def is_due(self, step: int, steps: int) -> bool:
        """Whether progress is to be said now that ``step`` is done: a few times a render, not too often, and often enough to live."""
        self.leases.advance(self.lease.lease_id, step)
        since = time.monotonic() - self.reported_at
        every = max(1, steps // REPORTS_A_RENDER)
        return since >= REPORT_EVERY_S and (step % every == 0 or since >= self.lease.lease_s / 4)

    def report(self, step: int, steps: int, previews: Iterable[str] = ()) -> None:
        self.reported_at = time.monotonic()
        self.reporter.progress(self.lease.lease_id, step, steps, tuple(previews))

    def finish(self) -> None:
        """It is over: the slot is free again."""
        if self.finished:
            return
        self.finished = True
        self.leases.finish(self.lease.lease_id)
        self.reporter.credit()
        counts = Counter("completed" if isinstance(outcome, Completed) else outcome.reason.code.value for outcome in self.outcomes)
        said = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing said"
        lost = f", lost: {self.lost}" if self.lost else ""
        lease, seconds = self.lease, time.perf_counter() - self.began
        log.info("lease %s attempt %d: %s: %s in %.2f s%s", lease.lease_id, lease.attempt, lease.batch_key, said, seconds, lost)
