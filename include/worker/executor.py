"""One lease from its start to the last of its outcomes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL.Image import Image

from include.contracts.dispatch import Lease, RenderTask
from include.contracts.errors import ReasonCode
from include.contracts.events import ImageResult, Usage
from include.contracts.workers import Completed, Failed
from include.storage import StoreError, StoreUnavailable
from include.worker.cache import ModelCache, ModelLoadError
from include.worker.leases import LeaseTable
from include.worker.memory import free_memory, is_out_of_memory
from include.worker.pipeline import Pipeline
from include.worker.render import Item, Render, items_of
from include.worker.reporter import Reporter
from include.worker.results import ResultStore

log = logging.getLogger(__name__)

REPORTS_A_RENDER = 5
REPORT_EVERY_S = 0.5


class LeaseLostError(Exception):
    """The lease expired, or the worker must end now: what is left of it is somebody else's."""


@dataclass
class Work:
    """What has become of one request of the lease so far."""

    task: RenderTask
    images: list[ImageResult] = field(default_factory=list)
    there_before: int = 0
    device_s: float = 0.0
    closed: bool = False  #: completed, failed or cancelled


class Execution:
    """The state of one lease's execution. :meth:`run` says everything that is to be said about it, but for the credit.

    :param max_items: images rendered at a time at most
    :param abandon: set to leave the lease at the next step boundary
    """

    def __init__(
        self,
        lease: Lease,
        *,
        leases: LeaseTable,
        cache: ModelCache,
        results: ResultStore,
        reporter: Reporter,
        max_items: int,
        abandon: threading.Event,
        device: str = "cpu",
    ) -> None:
        self.lease = lease
        self.leases = leases
        self.cache = cache
        self.results = results
        self.reporter = reporter
        self.max_items = max_items
        self.abandon = abandon
        self.device = device
        self.work = {task.request_id: Work(task) for task in lease.tasks}
        self.began = time.perf_counter()
        self.reported_at = 0.0
        self.outcomes: list[Completed | Failed] = []

    def run(self) -> None:
        """Raises :class:`LeaseLostError`; everything else that goes wrong becomes a ``Failed``."""
        try:
            self._check()
            self._run()
        except LeaseLostError as error:
            if not self.abandon.is_set():  # what is abandoned is handed back, which costs it no attempt
                self.fail_open(ReasonCode.LEASE_EXPIRED, str(error), retryable=True)
            raise

    def _run(self) -> None:
        self.reporter.started(self.lease.lease_id)
        try:
            if self.lease.attempt > 1:
                self._complete_stored()
            items = [item for item in items_of(self.lease.tasks) if not self.work[item.task.request_id].closed]
            if items:
                self._render_all(self.cache.get(self.lease.model), items)
        except ModelLoadError as error:
            self.fail_open(ReasonCode.MODEL_LOAD_FAILED, str(error), retryable=error.retryable)
        except StoreUnavailable as error:
            self._check()  # a lease that was lost while waiting says nothing more
            self.fail_open(ReasonCode.STORE_FAILED, str(error), retryable=True)

    def _complete_stored(self) -> None:
        """An earlier attempt may have stored everything and died before it could say so."""
        for work in self.work.values():
            found = self.results.existing(work.task)
            if found is not None:
                work.images, work.there_before = found, len(found)
                self._complete(work)

    def _render_all(self, pipeline: Pipeline, items: Sequence[Item]) -> None:
        for start in range(0, len(items), self.max_items):
            self._render(pipeline, items[start : start + self.max_items])

    def _render(self, pipeline: Pipeline, items: Sequence[Item]) -> None:
        """Render and store; a batch that fails is taken apart, until the item at fault is alone."""
        open_items = [item for item in items if not self.work[item.task.request_id].closed]
        if not open_items:
            return
        render = Render(pipeline, open_items)
        failure: Exception | None = None
        try:
            finished = self._finish(render)
        except LeaseLostError:
            raise
        except Exception as error:  # whatever the pipeline raises fails the render, never the worker
            failure = error
        if failure is not None:
            self._charge(render, open_items)
            self._recover(pipeline, open_items, failure)
            return
        self._charge(render, render.items)
        for item, image in finished:
            self._store(item, image)

    def _finish(self, render: Render) -> list[tuple[Item, Image]]:
        while not render.done:
            self._check()
            render.drop(self._cancelled())
            if not render.items:
                return []
            render.advance()
            self._report(render)
        self._check()
        render.drop(self._cancelled())
        return render.images()

    def _recover(self, pipeline: Pipeline, items: Sequence[Item], error: Exception) -> None:
        out_of_memory = is_out_of_memory(error)
        if out_of_memory:
            free_memory(self.device)
        if len(items) == 1:
            self._fail_item(items[0], error, out_of_memory)
            return
        log.warning("lease %s: a batch of %d failed and is taken apart: %s", self.lease.lease_id, len(items), error)
        size = (len(items) + 1) // 2 if out_of_memory else 1
        for start in range(0, len(items), size):
            self._render(pipeline, items[start : start + size])

    def _fail_item(self, item: Item, error: Exception, out_of_memory: bool) -> None:
        work = self.work[item.task.request_id]
        if out_of_memory:
            message = f"{item.task.width}x{item.task.height} does not fit the device's memory even alone: {error}"
            self._fail(work, ReasonCode.OUT_OF_MEMORY, message, retryable=True)
        elif isinstance(error, ValueError):
            self._fail(work, ReasonCode.UNSUPPORTED_SHAPE, str(error), retryable=False)
        else:
            log.error("lease %s: request %s failed", self.lease.lease_id, item.task.request_id, exc_info=error)
            self._fail(work, ReasonCode.RENDER_FAILED, f"{type(error).__name__}: {error}", retryable=True)

    def _store(self, item: Item, image: Image) -> None:
        work = self.work[item.task.request_id]
        self._check()
        if work.closed or item.task.request_id in self._cancelled():
            return
        try:
            result, there_before = self.results.put(item, image, self.lease.model)
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._fail(work, ReasonCode.STORE_FAILED, str(error), retryable=False)
            return
        work.images.append(result)
        work.there_before += there_before
        if len(work.images) == work.task.images:
            self._complete(work)

    def _complete(self, work: Work) -> None:
        work.closed = True
        usage = Usage(
            gpu_seconds=work.device_s,
            render_s=time.perf_counter() - self.began,
            steps=work.task.steps if work.device_s else 0,
            device=self.device,
        )
        outcome = self.reporter.completed(
            self.lease.lease_id,
            work.task.request_id,
            self.lease.model.version,
            sorted(work.images, key=lambda image: image.index),
            usage,
            cached=work.there_before == work.task.images,
        )
        self.outcomes.append(outcome)

    def _fail(self, work: Work, code: ReasonCode, message: str, *, retryable: bool) -> None:
        if work.closed:
            return
        work.closed = True
        outcome = self.reporter.failed(
            self.lease.lease_id, work.task.request_id, code, message, retryable=retryable, render_s=time.perf_counter() - self.began
        )
        self.outcomes.append(outcome)

    def fail_open(self, code: ReasonCode, message: str, *, retryable: bool) -> None:
        """Fail every request that is neither answered nor cancelled."""
        cancelled = self._cancelled()
        for request_id, work in self.work.items():
            if request_id not in cancelled:
                self._fail(work, code, message, retryable=retryable)

    def _charge(self, render: Render, items: Sequence[Item]) -> None:
        for item in items:
            self.work[item.task.request_id].device_s += render.device_s / len(items)

    def _cancelled(self) -> set[str]:
        return self.leases.revoked(self.lease.lease_id)

    def _check(self) -> None:
        if self.abandon.is_set():
            raise LeaseLostError("the worker ends")
        if self.leases.expired(self.lease.lease_id):
            raise LeaseLostError("it expired without renewal")

    def _report(self, render: Render) -> None:
        self.leases.advance(self.lease.lease_id, render.step)
        every = max(1, render.steps // REPORTS_A_RENDER)
        now = time.monotonic()
        if now - self.reported_at >= REPORT_EVERY_S and (render.step % every == 0 or now - self.reported_at >= self.lease.lease_s / 4):
            self.reported_at = now
            self.reporter.progress(self.lease.lease_id, render.step, render.steps)
