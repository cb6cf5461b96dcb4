"""The worker process: Kafka and heartbeats in one thread, rendering in another, loading ahead in a third."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass, field

from include.config import Settings
from include.contracts.dispatch import AnyDispatchMessage, Revoke
from include.worker.acceleration import accelerate
from include.worker.adapters import AdapterShelf
from include.worker.cache import ModelCache
from include.worker.caches import caches_of, weights_budget
from include.worker.device_health import device_health
from include.worker.dispatches import Unreadable
from include.worker.edge_client import EdgeAccess
from include.worker.golden import golden_check
from include.worker.health import HealthFile, health_path
from include.worker.leases import LeaseTable, Offer
from include.worker.loop import RenderLoop
from include.worker.memory import free_memory_mb
from include.worker.metrics import Figures
from include.worker.pace import Unhurried
from include.worker.parked import ParkedRenders
from include.worker.pipeline import Loader, load_torch
from include.worker.ports import Ports
from include.worker.prefetch import Prefetcher
from include.worker.previews import PreviewWriter
from include.worker.reporter import Identity, Reporter
from include.worker.results import ResultStore
from include.worker.slicing import Bounds
from include.worker.surroundings import surroundings
from include.worker.tools import Tools

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
POLL_S = 0.1
STALLED_S = 600.0  #: a step, load or store that takes longer renews its lease no more
STORE_PATIENCE_LEASES, STORE_PATIENCE_S = 4, 60.0
FLUSH_S = 10.0
KEEP_S = 10.0  #: what storing unfinished renders for another worker may take
PREVIEWS_S = 2.0  #: what waiting previews may still take at the end


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
    backend: str = "torch-eager"  #: what runs the models; auto: the fastest that was measured right, measuring beside the work
    drain_s: float = 20.0  #: what a running micro-batch may still take after a request to stop
    bounds: Bounds = field(default_factory=Bounds)  #: of how far a render may be put aside for a more urgent or much shorter one
    previews: bool = True  #: whether running requests show how they look to become
    metrics: str = ""  #: HOST:PORT at which its figures are given out; empty: nowhere
    edge: EdgeAccess | None = None  #: the gateway through which everything goes; None: Kafka, MLflow and the store are reached themselves


class Worker:
    """:meth:`run` serves until ``stop`` is set, then finishes or hands back what it holds."""

    def __init__(self, settings: Settings, options: WorkerOptions, loader: Loader = load_torch) -> None:
        self.settings = settings
        self.options = options
        self.incarnation = f"{int(time.time() * 1000):x}-{uuid.uuid4().hex[:8]}"
        self.abandon = threading.Event()
        self.finished = threading.Event()
        self.leases = LeaseTable()
        around = surroundings(settings, pool=options.pool, worker_id=options.worker_id, incarnation=self.incarnation, edge=options.edge)
        acceleration = accelerate(
            settings.home,
            wanted=options.backend,
            device=options.device,
            threads=options.threads,
            loader=loader,
            on_tuned=lambda digest: self.cache.renew(digest),
        )
        self.tuner = acceleration.tuner
        self.cache = ModelCache(
            around.fetcher,
            acceleration.loader,
            options.device,
            max_models=options.max_models,
            max_bytes=weights_budget(settings, options.device),
            check=golden_check,
            rehearse=acceleration.parity.rehearse,
            unhurried=lambda: Unhurried(lambda: self.reporter.busy.rendering),
        )
        self.caches = caches_of(settings, around.store, around.fetcher, device=options.device, edge=options.edge is not None)
        self.link, self._follow_routes = around.link, around.follow_routes
        self.reporter = Reporter(self._identity(), self.link, self.leases, self.cache, health=device_health(options.device))
        patience_s = max(STORE_PATIENCE_S, STORE_PATIENCE_LEASES * settings.lease_s)
        self.previews = PreviewWriter(around.store) if options.previews else None
        tools = Tools(
            cache=self.cache,
            results=ResultStore(around.store, patience_s, self.abandon),
            adapters=AdapterShelf(around.fetcher),
            parked=ParkedRenders(around.store),
            previews=self.previews,
            max_items=options.max_items,
            device=options.device,
            ports=Ports(parity=acceleration.parity, prompts=self.caches.prompts, results=self.caches.results, safety=self.caches.safety),
        )
        self.loop = RenderLoop(self.leases, self.reporter, tools, self.abandon, options.bounds)
        self.cache.on_change = self.reporter.credit
        self.prefetcher = Prefetcher(self.cache, max_models=max(1, options.max_models - 1))
        self.health = HealthFile(
            health_path(settings.home, options.worker_id),
            {"worker_id": options.worker_id, "incarnation": self.incarnation, "pool": options.pool, "device": options.device},
        )
        self.handed_back: list[str] = []
        self._next_beat = 0.0
        self._kept_alive_at = 0.0

    def run(self, stop: threading.Event) -> None:
        self._write_health(f"waiting for {self.link.where}")
        if self.link.connect(stop):
            self._serve(stop)
        self.link.close(FLUSH_S)
        self.health.remove()

    def _serve(self, stop: threading.Event) -> None:
        self.reporter.hello()
        log.info("worker %s (incarnation %s) serves pool %s on %s", *self._names())
        renderer = threading.Thread(target=self.loop.run, name="render")
        ahead = threading.Thread(target=self._follow_routes, args=(self.prefetcher, self.finished), name="prefetch", daemon=True)
        tuner = threading.Thread(target=self.tuner.run, args=(self.finished,), name="tune", daemon=True)
        renderer.start()
        ahead.start()
        tuner.start()
        try:
            while not stop.is_set() and renderer.is_alive():
                self._turn()
            self._drain(renderer)
        finally:
            self.leases.close()
            self.abandon.set()
            self.finished.set()
            if self.previews is not None:
                self.previews.close(PREVIEWS_S)
            self.caches.close()

    def _turn(self) -> None:
        for message in self.link.poll(POLL_S):
            self._take(message)
        self._beat()

    def _take(self, message: AnyDispatchMessage | Unreadable) -> None:
        if isinstance(message, Unreadable):
            log.error("%s", message.reason.message)
            self.reporter.failed(message.lease_id, None, message.reason.code, message.reason.message, retryable=True)
            return
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
        """A long step, load or store renews its lease too, as long as there is hope for it; so does waiting aside for another render."""
        held = self.leases.running()
        if not held or time.time() - max(one.advanced_at for one in held) > STALLED_S:
            return
        if now - self._kept_alive_at < min(one.lease.lease_s for one in held) / 4:
            return
        self._kept_alive_at = now
        for one in held:
            self.reporter.progress(one.lease.lease_id, one.step, one.lease.batch_key.steps)

    def _drain(self, renderer: threading.Thread) -> None:
        log.info("worker %s drains", self.options.worker_id)
        self.reporter.draining = True
        self.handed_back.extend(self.leases.close())
        self.reporter.credit()
        give_up_at = time.monotonic() + self.options.drain_s
        while renderer.is_alive() and time.monotonic() < give_up_at:
            self._turn()
        self.abandon.set()
        renderer.join(max(self.options.drain_s, KEEP_S))
        self.handed_back.extend(self.loop.handed_back)
        self.handed_back.extend(set(self.leases.held()) - set(self.handed_back))
        self.reporter.goodbye(tuple(self.handed_back))

    def _write_health(self, state: str) -> None:
        self.health.write(
            state=state,
            at=time.time(),
            heartbeat_at=self.reporter.delivered_at,
            held=self.leases.held(),
            warm_models=self.cache.warm(),
            refused_models=self.cache.refused(),
            model_cache=self.cache.measured(),
            caches=self.caches.figures(),
            rendered=self.loop.completed,
        )

    def metrics(self) -> Figures:
        """For Prometheus."""
        options = self.options
        return Figures(self.figures, {"worker_id": options.worker_id, "pool": options.pool, "device": options.device})

    def figures(self) -> dict[str, float]:
        """By the names of :data:`include.worker.metrics.METRICS`."""
        models, caches = self.cache.measured(), self.caches.figures()
        return {
            "models_loaded": models["models"],
            "model_bytes": models["bytes"],
            "model_hits_total": models["hits"],
            "model_loads_total": models["loads"],
            "model_load_seconds_total": models["load_s"],
            "model_load_failures_total": models["failures"],
            "model_evictions_total": models["evictions"],
            **{f"{name}_total": count for name, count in caches.items()},
            "requests_completed_total": self.loop.completed,
            "leases_held": len(self.leases.held()),
            "renders_parked": self.reporter.parked,
            "free_memory_bytes": free_memory_mb(self.options.device) * 1e6,
            "draining": self.reporter.draining,
        }

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
