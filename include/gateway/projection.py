"""What became of each request, folded from the events topic into SQLite.

The offsets are stored in the transaction that stores the events' effect, so a restart goes on exactly where the last one was. Events are
dropped by ``event_id`` when a restored router says them again, and a terminal state is never left.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from include.client.reader import Record, parse_event
from include.contracts.base import dump
from include.contracts.events import State, StatusEvent
from include.contracts.requests import GenerationRequest, ServiceClass

KEEP_S = 7 * 24 * 3600  #: as long as the events topic keeps its messages
ACCEPTED = "Accepted"  #: on the topic, the router has not said anything yet

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    digest TEXT,                  -- of what the gateway took; null for a request that came by Kafka
    acknowledged INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    terminal INTEGER NOT NULL,
    status TEXT NOT NULL          -- JSON
);
CREATE INDEX IF NOT EXISTS requests_by_tenant ON requests (tenant, changed_at);
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (changed_at);
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL REFERENCES requests ON DELETE CASCADE,
    terminal INTEGER NOT NULL,
    body TEXT NOT NULL            -- JSON
);
CREATE INDEX IF NOT EXISTS events_by_request ON events (request_id, sequence);
CREATE TABLE IF NOT EXISTS offsets (
    cluster TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (cluster, topic, partition)
);
"""

#: Parts of a status that only hold for the newest event.
_MOMENTARY = ("position", "estimate", "progress", "reason", "worker_id")
_NOT_STATUS = ("event_id", "request_id", "tenant", "at", "schema_version", "trace")
_MARKS = {State.QUEUED: "queued_at", State.PROCESSING: "started_at"}


class Acceptance(Enum):
    NEW = "new"  #: not seen before, or not acknowledged by the broker yet: send it
    REPEAT = "repeat"  #: this tenant sent the very same before: answer it
    DIFFERENT = "different"  #: this tenant used the id for something else
    TAKEN = "taken"  #: another tenant owns the id


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    sequence: int
    terminal: bool
    body: dict[str, Any]


class Projection:
    """One connection, one lock: writes are batched by the follower, and a read takes microseconds."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;" + _SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def accept(self, request: GenerationRequest, digest: str, service_class: ServiceClass, now: float) -> Acceptance:
        """Remembers that the gateway took a request, before it is sent."""
        with self._transaction():
            row = self._row(request.request_id)
            if row is None:
                status = {"state": ACCEPTED, "tier": request.tier, "service_class": service_class, "created_at": now}
                self._insert(request.request_id, request.tenant, digest, now, status)
                return Acceptance.NEW
        if row["tenant"] != request.tenant:
            return Acceptance.TAKEN
        if row["digest"] != digest:
            return Acceptance.DIFFERENT
        return Acceptance.REPEAT if row["acknowledged"] else Acceptance.NEW

    def acknowledge(self, request_id: str) -> None:
        """The broker has it."""
        with self._transaction():
            self._db.execute("UPDATE requests SET acknowledged = 1 WHERE request_id = ?", (request_id,))

    def status(self, request_id: str, tenant: str) -> dict[str, Any] | None:
        """None where the request is not known or is another tenant's."""
        with self._lock:
            row = self._row(request_id)
        return json.loads(row["status"]) if row is not None and row["tenant"] == tenant else None

    def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        """The tenant's requests, the newest change first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT request_id, status FROM requests WHERE tenant = ? ORDER BY changed_at DESC LIMIT ?", (tenant, limit)
            ).fetchall()
        return [{"request_id": row["request_id"], **json.loads(row["status"])} for row in rows]

    def events_after(self, request_id: str, sequence: int) -> list[StoredEvent]:
        with self._lock:
            rows = self._db.execute(
                "SELECT sequence, terminal, body FROM events WHERE request_id = ? AND sequence > ? ORDER BY sequence",
                (request_id, sequence),
            ).fetchall()
        return [StoredEvent(sequence=row["sequence"], terminal=bool(row["terminal"]), body=json.loads(row["body"])) for row in rows]

    def offsets(self, cluster: str, topic: str) -> dict[int, int]:
        """Partition → the next offset to read. A broker that was set up anew has another cluster id and starts from nothing."""
        with self._lock:
            rows = self._db.execute("SELECT partition, next FROM offsets WHERE cluster = ? AND topic = ?", (cluster, topic)).fetchall()
        return {row["partition"]: row["next"] for row in rows}

    def apply(self, cluster: str, topic: str, records: Iterable[Record]) -> set[str]:
        """Folds the records in, all or nothing; returns the ids of the requests that changed."""
        changed: set[str] = set()
        offsets: dict[int, int] = {}
        with self._transaction():
            for record in records:
                offsets[record.partition] = record.offset + 1
                event = parse_event(record)
                if event is not None and self._fold(event):
                    changed.add(event.request_id)
            self._db.executemany(
                "INSERT INTO offsets VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
                [(cluster, topic, partition, following) for partition, following in offsets.items()],
            )
        return changed

    def prune(self, now: float | None = None) -> int:
        """Forgets requests that have not changed for as long as the topic keeps its events; returns how many."""
        before = (time.time() if now is None else now) - KEEP_S
        with self._transaction():
            return self._db.execute("DELETE FROM requests WHERE changed_at < ?", (before,)).rowcount

    def _fold(self, event: StatusEvent) -> bool:
        row = self._row(event.request_id)
        if row is not None and row["tenant"] != event.tenant:
            if self._has_events(event.request_id):
                return False
            # The router knows one owner for an id. If it names another tenant than the gateway assumed, the gateway's request has lost.
            self._db.execute("DELETE FROM requests WHERE request_id = ?", (event.request_id,))
            row = None
        if row is not None and row["terminal"]:
            return False
        if row is None:
            self._insert(event.request_id, event.tenant, None, event.at, {"created_at": event.at})
        status = json.loads(row["status"]) if row is not None else {"created_at": event.at}
        stored = self._db.execute(
            "INSERT INTO events (event_id, request_id, terminal, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (event.event_id, event.request_id, event.state.terminal, json.dumps(dump(event))),
        )
        if stored.rowcount:
            self._db.execute(
                "UPDATE requests SET status = ?, terminal = ?, changed_at = ?, acknowledged = 1 WHERE request_id = ?",
                (json.dumps(fold_status(status, event)), event.state.terminal, event.at, event.request_id),
            )
        return bool(stored.rowcount)

    def _has_events(self, request_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM events WHERE request_id = ?", (request_id,)).fetchone() is not None

    def _row(self, request_id: str) -> sqlite3.Row | None:
        return self._db.execute("SELECT * FROM requests WHERE request_id = ?", (request_id,)).fetchone()

    def _insert(self, request_id: str, tenant: str, digest: str | None, now: float, status: Mapping[str, Any]) -> None:
        self._db.execute("INSERT INTO requests VALUES (?, ?, ?, 0, ?, 0, ?)", (request_id, tenant, digest, now, json.dumps(status)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def fold_status(status: Mapping[str, Any], event: StatusEvent) -> dict[str, Any]:
    """The status after an event: what it says replaces what was, what it leaves out stays unless it only held for a moment."""
    said = {key: value for key, value in dump(event).items() if key not in _NOT_STATUS}
    kept = {key: value for key, value in status.items() if key not in _MOMENTARY}
    mark = "ended_at" if event.state.terminal else _MARKS.get(event.state)
    marks = {mark: event.at} if mark and (mark != "queued_at" or mark not in kept) else {}
    return {**kept, **said, **marks}
