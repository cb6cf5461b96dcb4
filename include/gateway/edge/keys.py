"""Credentials of edge workers: for which worker ids one may speak, and of which pool. Only digests are kept."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from include.contracts.base import Name, Timestamp
from include.gateway.keys import digest_of, write_private

#: A worker id, or the beginning of several with ``*`` behind it. A worker id itself holds no ``*``.
WorkerPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\*?$", max_length=128)]


class EdgeCaller(BaseModel):
    """What an edge credential stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: WorkerPattern
    pool: Name
    expires_at: Timestamp | None = None

    def may_be(self, worker_id: str) -> bool:
        if self.workers.endswith("*"):
            return worker_id.startswith(self.workers[:-1])
        return worker_id == self.workers


class StoredEdgeKey(EdgeCaller):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def caller(self) -> EdgeCaller:
        return EdgeCaller(workers=self.workers, pool=self.pool, expires_at=self.expires_at)


class EdgeKeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[StoredEdgeKey, ...] = ()


def edge_keys_path(home: Path) -> Path:
    return home / "gateway" / "edge-keys.json"


def ensure_edge_keys(home: Path) -> Path:
    """Creates the file, without a key in it, unless there is one; returns its path."""
    path = edge_keys_path(home)
    if not path.exists():
        _write(path, EdgeKeyFile())
    return path


def stored_edge_keys(home: Path) -> tuple[StoredEdgeKey, ...]:
    return EdgeKeyFile.model_validate_json(ensure_edge_keys(home).read_bytes()).keys


def create_edge_key(home: Path, caller: EdgeCaller) -> str:
    """A new credential, which is nowhere kept; the gateway knows it from its next call on."""
    key = f"atelier-edge-{secrets.token_urlsafe(32)}"
    stored = StoredEdgeKey(**caller.model_dump(), sha256=digest_of(key))
    _write(edge_keys_path(home), EdgeKeyFile(keys=(*stored_edge_keys(home), stored)))
    return key


def revoke_edge_keys(home: Path, workers: str) -> int:
    """Takes back every credential of exactly this pattern; returns how many."""
    present = stored_edge_keys(home)
    kept = tuple(key for key in present if key.workers != workers)
    _write(edge_keys_path(home), EdgeKeyFile(keys=kept))
    return len(present) - len(kept)


def read_edge_keys(path: Path) -> dict[str, EdgeCaller]:
    """For :class:`~include.gateway.keys.KeyRing`."""
    return {key.sha256: key.caller for key in EdgeKeyFile.model_validate_json(path.read_bytes()).keys}


def is_expired(caller: EdgeCaller, now: float | None = None) -> bool:
    return caller.expires_at is not None and (time.time() if now is None else now) > caller.expires_at


def _write(path: Path, file: EdgeKeyFile) -> None:
    write_private(path, file.model_dump_json(indent=2, exclude_none=True) + "\n")
