"""API keys: who calls. Only digests are kept; a key has 192 random bits, so a plain SHA-256 of it can't be reversed by guessing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from include.contracts.base import Name
from include.contracts.requests import Tier

log = logging.getLogger(__name__)

T = TypeVar("T")

DEMO_TENANTS = {"acme": Tier.ENTERPRISE, "globex": Tier.PRO, "initech": Tier.FREE}


class Caller(BaseModel):
    """What a key stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: Name
    tier: Tier


class StoredKey(Caller):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[StoredKey, ...]


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys_path(home: Path) -> Path:
    return home / "gateway" / "keys.json"


def demo_keys_path(home: Path) -> Path:
    return home / "gateway" / "demo-keys.json"


def demo_keys(home: Path) -> dict[str, str]:
    """Tenant → key of the keys that a first start made. Raises :class:`FileNotFoundError` before that."""
    return json.loads(demo_keys_path(home).read_text())


def ensure_keys(home: Path) -> Path:
    """Creates the key file with a key for each demo tenant, unless there is one; returns its path."""
    path = keys_path(home)
    if path.exists():
        return path
    keys = {tenant: f"atelier-{secrets.token_urlsafe(24)}" for tenant in DEMO_TENANTS}
    stored = [StoredKey(tenant=tenant, tier=tier, sha256=digest_of(keys[tenant])) for tenant, tier in DEMO_TENANTS.items()]
    write_private(demo_keys_path(home), json.dumps(keys, indent=2) + "\n")
    write_private(path, KeyFile(keys=tuple(stored)).model_dump_json(indent=2) + "\n")
    return path


def write_private(path: Path, text: str) -> None:
    """Replace the file as a whole; only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


class KeyRing(Generic[T]):
    """Who calls, by key. A changed file is read again at the next call; while it is broken, the last good one counts.

    :param read: gives the callers by digest; raises :class:`OSError` or :class:`ValueError` for a file that is no good
    """

    def __init__(self, path: Path, read: Callable[[Path], Mapping[str, T]]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._version: tuple[int, int] | None = None
        self._callers: Mapping[str, T] = {}

    def caller(self, key: str) -> T | None:
        with self._lock:
            self._refresh()
            return self._callers.get(digest_of(key))

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._version = version
                self._callers = self._read(self._path)
        except (OSError, ValueError) as error:
            log.error("%s can't be read, the keys known so far stay: %s", self._path, error)


def read_tenant_keys(path: Path) -> dict[str, Caller]:
    stored = KeyFile.model_validate_json(path.read_bytes()).keys
    return {key.sha256: Caller(tenant=key.tenant, tier=key.tier) for key in stored}
