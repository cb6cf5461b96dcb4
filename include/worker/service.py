"""The worker process: Kafka and heartbeats in one thread, rendering in another, loading ahead in a third."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass

from include.config import Settings
from include.contracts.dispatch import AnyDispatchMessage, Lease, Revoke
from include.contracts.errors import ReasonCode
from include.contracts.workers import Completed
from include.registry.fetch import ModelFetcher
from include.storage import open_store
from include.worker.cache import ModelCache
from include.worker.executor import Execution, LeaseLostError
from include.worker.health import HealthFile, health_path
from include.worker.leases import LeaseTable, Offer
from include.worker.link import WorkerLink
from include.worker.pipeline import Loader, load_torch
from include.worker.prefetch import Prefetcher, follow_routes
from include.worker.reporter import Identity, Reporter
from include.worker.results import ResultStore

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
POLL_S = 0.1
STALLED_S = 600.0  #: a step, load or store that takes longer renews its lease no more
STORE_PATIENCE_LEASES, STORE_PATIENCE_S = 4, 60.0
FLUSH_S = 10.0


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    pool: str
    worker_id: str
    device: str = "cpu"
    slots: int = 2  #: micro-batches held at most: one runs, the rest wait
    max_batch: int = 4  #: requests in a micro-batch at most
    max_items: int = 8  #: images rendered at a time at most
    max_models: int = 3  #: versions loaded at most
    threads: int = 1  #: CPU threads of a render
    drain_s: float = 20.0  #: what a running micro-batch may still take after a request to stop


class Worker:
    """:meth:`run` serves until ``stop`` is set, then finishes or hands back what it holds."""

    def __init__(self, settings: Settings, options: WorkerOptions, loader: Loader = load_torch) -> None:
        self.settings = settings
        self.options = options
        self.incarnation = f"{int(time.time() * 1000):x}-{uuid.uuid4().hex[:8]}"
        self.abandon = threading.Event()
        self.finished = threading.Event()
        self.leases = LeaseTable()
        self.cache = ModelCache(
            ModelFetcher(settings.home / "models", settings.mlflow), loader, options.device, max_models=options.max_models
        )
        self.link = WorkerLink(settings, pool=options.pool, worker_id=options.worker_id, incarnation=self.incarnation)
        self.reporter = Reporter(self._identity(), self.link, self.leases, self.cache)
        patience_s = max(STORE_PATIENCE_S, STORE_PATIENCE_LEASES * settings.lease_s)
        self.results = ResultStore(open_store(settings), patience_s, self.abandon)
        self.prefetcher = Prefetcher(self.cache, self.reporter.credit, max_models=max(1, options.max_models - 1))
        self.health = HealthFile(
            health_path(settings.home, options.worker_id),
            {"worker_id": options.worker_id, "incarnation": self.incarnation, "pool": options.pool, "device": options.device},
        )
        self.handed_back: list[str] = []
        self.rendered = 0
        self._next_beat = 0.0
        self._kept_alive_at = 0.0

    def run(self, stop: threading.Event) -> None:
        self._write_health("waiting for Kafka")
        if self.link.connect(stop):
            self._serve(stop)
        self.link.close(FLUSH_S)
        self.health.remove()

    def _serve(self, stop: threading.Event) -> None:
        self.reporter.hello()
        log.info("worker %s (incarnation %s) serves pool %s on %s", *self._names())
        renderer = threading.Thread(target=self._render_leases, name="render")
        ahead = threading.Thread(target=follow_routes, args=(self.settings, self.prefetcher, self.finished), name="prefetch", daemon=True)
        renderer.start()
        ahead.start()
        try:
            while not stop.is_set() and renderer.is_alive():
                self._turn()
            self._drain(renderer)
        finally:
            self.leases.close()
            self.abandon.set()
            self.finished.set()

    def _turn(self) -> None:
        for message in self.link.poll(POLL_S):
            self._take(message)
        self._beat()

    def _take(self, message: AnyDispatchMessage) -> None:
        if isinstance(message, Revoke):
            if self.leases.revoke(message):
                log.info("lease %s: %s revoked", message.lease_id, ", ".join(message.request_ids) or "all")
                self.reporter.credit()
            return
        offer = self.leases.offer(message)
        if offer is Offer.ANSWERED:
            self.reporter.again(message.lease_id)
        elif offer is Offer.CLOSED:
            self.handed_back.append(message.lease_id)
        self.reporter.credit()

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + HEARTBEAT_S
        self.reporter.credit(heartbeat=True)
        self._keep_alive(now)
        self._write_health("draining" if self.reporter.draining else "serving")

    def _keep_alive(self, now: float) -> None:
        """A long step, load or store renews its lease too, as long as there is hope for it."""
        held = self.leases.running()
        if held is None or time.time() - held.advanced_at > STALLED_S or now - self._kept_alive_at < held.lease.lease_s / 4:
            return
        self._kept_alive_at = now
        self.reporter.progress(held.lease.lease_id, held.step, held.lease.batch_key.steps)

    def _drain(self, renderer: threading.Thread) -> None:
        log.info("worker %s drains", self.options.worker_id)
        self.reporter.draining = True
        self.handed_back.extend(self.leases.close())
        self.reporter.credit()
        give_up_at = time.monotonic() + self.options.drain_s
        while renderer.is_alive() and time.monotonic() < give_up_at:
            self._turn()
        self.abandon.set()
        renderer.join(self.options.drain_s)
        self.handed_back.extend(set(self.leases.held()) - set(self.handed_back))
        self.reporter.goodbye(tuple(self.handed_back))

    def _render_leases(self) -> None:
        while (lease := self.leases.take()) is not None:
            self.reporter.busy.begin()
            try:
                self._execute(lease)
            finally:
                self.reporter.busy.end()
                self.leases.finish(lease.lease_id)
                self.reporter.credit()

    def _execute(self, lease: Lease) -> None:
        began = time.perf_counter()
        execution = Execution(
            lease,
            leases=self.leases,
            cache=self.cache,
            results=self.results,
            reporter=self.reporter,
            max_items=self.options.max_items,
            abandon=self.abandon,
            device=self.options.device,
        )
        note = ""
        try:
            execution.run()
        except LeaseLostError as error:
            note = f", lost: {error}"
            if self.abandon.is_set():
                self.handed_back.append(lease.lease_id)
        except Exception as error:
            log.exception("lease %s", lease.lease_id)
            execution.fail_open(ReasonCode.RENDER_FAILED, f"{type(error).__name__}: {error}", retryable=True)
        self._log(lease, execution, time.perf_counter() - began, note)

    def _log(self, lease: Lease, execution: Execution, seconds: float, note: str) -> None:
        counts = Counter("completed" if isinstance(outcome, Completed) else outcome.reason.code.value for outcome in execution.outcomes)
        self.rendered += counts["completed"]
        said = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing said"
        log.info("lease %s attempt %d: %s: %s in %.2f s%s", lease.lease_id, lease.attempt, lease.batch_key, said, seconds, note)

    def _write_health(self, state: str) -> None:
        self.health.write(
            state=state,
            at=time.time(),
            heartbeat_at=self.reporter.delivered_at,
            held=self.leases.held(),
            warm_models=self.cache.warm(),
            rendered=self.rendered,
        )

    def _identity(self) -> Identity:
        return Identity(
            worker_id=self.options.worker_id,
            incarnation=self.incarnation,
            cell=self.settings.cell,
            pool=self.options.pool,
            device=self.options.device,
            slots=self.options.slots,
            max_batch=self.options.max_batch,
        )

    def _names(self) -> tuple[str, str, str, str]:
        return self.options.worker_id, self.incarnation, self.options.pool, self.options.device
