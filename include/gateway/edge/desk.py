"""What the gateway keeps for edge workers: one book of leases for each of their pools, followed from the topics."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass, field

from pydantic import ValidationError

from include.client.reader import Record
from include.config import Settings
from include.contracts import topics
from include.contracts.dispatch import dispatch_messages
from include.contracts.workers import worker_messages
from include.gateway.edge.book import LeaseBook
from include.gateway.edge.keys import ensure_edge_keys, read_edge_keys, stored_edge_keys
from include.gateway.edge.limits import RateLimit
from include.gateway.follower import TopicFollower
from include.gateway.hub import Hub
from include.gateway.keys import KeyRing

log = logging.getLogger(__name__)

#: How far back the topics are read at a start. A lease lasts an hour at most; what no worker spoke of for two minutes is heard of again
#: with its next heartbeat.
DISPATCH_WINDOW_S, WORKERS_WINDOW_S = 3600.0, 120.0
CALLS_A_SECOND, CALLS_SAVED = 50.0, 300.0

_POOL = re.compile(rb'"pool"\s*:\s*"([A-Za-z0-9._-]+)"')


def stream_key(worker_id: str) -> str:
    """The worker's name on the :class:`~include.gateway.hub.Hub`; no request id has a colon."""
    return f"edge:{worker_id}"


@dataclass(frozen=True)
class PoolDesk:
    book: LeaseBook
    dispatches: TopicFollower


@dataclass
class EdgeDesk:
    """Costs nothing until the first edge worker calls: only then are its pool's topics followed."""

    settings: Settings
    hub: Hub
    limit: RateLimit = field(default_factory=lambda: RateLimit(CALLS_A_SECOND, CALLS_SAVED))

    def __post_init__(self) -> None:
        self.keys = KeyRing(ensure_edge_keys(self.settings.home), read_edge_keys)
        self._lock = threading.Lock()
        self._pools: dict[str, PoolDesk] = {}
        self._workers: TopicFollower | None = None

    def pool(self, pool: str) -> PoolDesk:
        """The desk of a pool, from now on kept up to date."""
        with self._lock:
            if pool not in self._pools:
                known = {key.pool for key in stored_edge_keys(self.settings.home)}
                self._pools |= {name: self._open(name) for name in {pool, *known} - self._pools.keys()}
            if self._workers is None:  # after the books, which must miss nothing of what it reads first
                self._workers = TopicFollower(self.settings, topics.WORKERS, self._on_reports, window_s=WORKERS_WINDOW_S)
                self._workers.start()
            return self._pools[pool]

    def trouble(self, pool: str) -> str:
        """Why the pool's book isn't up to date yet; empty where it is."""
        desk = self.pool(pool)
        followers = {topics.dispatch(pool): desk.dispatches, topics.WORKERS: self._workers}
        for topic, follower in followers.items():
            if follower is not None and follower.state.caught_up_at is None:
                return f"{topic} is still being read: {follower.state.error or 'it is not at its end yet'}"
        return ""

    def close(self) -> None:
        """Blocks for up to a few seconds."""
        with self._lock:
            followers = [self._workers, *(desk.dispatches for desk in self._pools.values())]
        for follower in filter(None, followers):
            follower.stop()

    def _open(self, pool: str) -> PoolDesk:
        book = LeaseBook(pool)

        def on_dispatches(cluster: str, records: list[Record]) -> None:
            self.hub.notify_from_thread({stream_key(name) for record in records if (name := _note(book, cluster, record))})

        follower = TopicFollower(self.settings, topics.dispatch(pool), on_dispatches, window_s=DISPATCH_WINDOW_S)
        follower.start()
        return PoolDesk(book, follower)

    def _on_reports(self, cluster: str, records: list[Record]) -> None:
        for record in records:
            found = _POOL.search(record.value or b"")  # most messages are of workers that Kafka serves; those are not parsed
            desk = self._pools.get(found[1].decode()) if found else None
            if desk is not None:
                _note_report(desk.book, record)


def _note(book: LeaseBook, cluster: str, record: Record) -> str:
    """The worker that the record is for, empty where it is none."""
    try:
        message = dispatch_messages.validate_json(record.value or b"")
    except ValidationError as error:
        log.error("offset %d of dispatch.%s is no dispatch and skipped: %s", record.offset, book.pool, error.errors()[0]["msg"])
        return ""
    book.note_dispatch(cluster, record.offset, message)
    return message.worker_id


def _note_report(book: LeaseBook, record: Record) -> None:
    try:
        book.note_report(worker_messages.validate_json(record.value or b""))
    except ValidationError:
        log.debug("workers[%d]@%d is no worker message", record.partition, record.offset)
