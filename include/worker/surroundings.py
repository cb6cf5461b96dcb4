"""What a worker's process reaches of the installation: over Kafka, MLflow and the store, or through the gateway alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from include.config import Settings
from include.contracts.dispatch import AnyDispatchMessage
from include.contracts.workers import WorkerMessage
from include.registry.fetch import ModelFetcher
from include.storage import ObjectStore, open_store
from include.worker.dispatches import Unreadable
from include.worker.edge_client import EdgeAccess, EdgeClient
from include.worker.edge_link import EdgeLink
from include.worker.edge_models import EdgeFetcher, follow_edge_routes
from include.worker.edge_store import EdgeStore
from include.worker.link import WorkerLink
from include.worker.prefetch import Prefetcher, follow_routes


class Link(Protocol):
    """The line to the router. Rides out that the other end is away: what was sent stays queued and in order until it returns."""

    where: str  #: the other end, in words

    def connect(self, stop: threading.Event) -> bool:
        """From here on :meth:`poll` misses no dispatch. Waits for the other end; False where ``stop`` was set meanwhile."""

    def poll(self, timeout_s: float) -> list[AnyDispatchMessage | Unreadable]:
        """Dispatches for this worker's incarnation, each at least once."""

    def send(self, message: WorkerMessage, on_delivered: Callable[[], None] | None = None) -> None:
        """From any thread. ``on_delivered`` is called once the message is durable."""

    def close(self, timeout_s: float) -> int:
        """Waits for the acknowledgements; returns how many did not come."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    link: Link
    store: ObjectStore
    fetcher: ModelFetcher
    follow_routes: Callable[[Prefetcher, threading.Event], None]  #: until the event is set


def surroundings(settings: Settings, *, pool: str, worker_id: str, incarnation: str, edge: EdgeAccess | None = None) -> Surroundings:
    """Nothing is connected yet. With ``edge``, everything goes through that gateway."""
    cache_dir, cache_bytes = settings.home / "models", int(settings.model_cache_gb * 1e9)
    if edge is None:
        return Surroundings(
            link=WorkerLink(settings, pool=pool, worker_id=worker_id, incarnation=incarnation),
            store=open_store(settings),
            fetcher=ModelFetcher(cache_dir, settings.mlflow, max_bytes=cache_bytes),
            follow_routes=partial(follow_routes, settings),
        )
    client = EdgeClient(edge, worker_id=worker_id, incarnation=incarnation)
    return Surroundings(
        link=EdgeLink(client, cell=settings.cell, pool=pool, worker_id=worker_id, incarnation=incarnation),
        store=EdgeStore(client),
        fetcher=EdgeFetcher(cache_dir, client, max_bytes=cache_bytes),
        follow_routes=partial(follow_edge_routes, client),
    )
