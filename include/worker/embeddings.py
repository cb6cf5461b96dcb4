"""Where prompt embeddings are kept between renders: this process's memory, and a Redis or Memcached that workers share.

A value is a dict of tensors, and outside this process the bytes of a safetensors file behind their own digest: never a pickle, and what
was cut off or changed on its way is a miss.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

log = logging.getLogger(__name__)

MEMORY_BYTES = 256 * 2**20
TIMEOUT_S = 0.1  #: of one call of a server
KEEP_S = 7 * 24 * 3600
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
MEMCACHED_BYTES = 1_000_000  #: what a Memcached takes, unless it was told otherwise
DIGEST_BYTES = 32

Embedding = Mapping[str, Tensor]


class BlobCache(Protocol):
    """A server of bytes. Every method may raise anything where it is away."""

    max_bytes: int  #: largest value that it takes

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...

    def close(self) -> None: ...


class MemoryEmbeddings:
    """The embeddings used last, up to ``max_bytes`` of them."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Embedding] = OrderedDict()

    def get(self, key: str) -> Embedding | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: Embedding) -> None:
        with self._lock:
            self._drop(key)
            self._kept[key] = value
            self.bytes += _size(value)
            while self.bytes > self.max_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        value = self._kept.pop(key, None)
        if value is not None:
            self.bytes -= _size(value)


class RedisBlobs:
    max_bytes = 64 * 2**20

    def __init__(self, url: str) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))

    def get(self, key: str) -> bytes | None:
        found = self._client.get(key)
        return found if isinstance(found, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        self._client.set(key, value, ex=KEEP_S)

    def close(self) -> None:
        self._client.close()


class MemcachedBlobs:
    max_bytes = MEMCACHED_BYTES

    def __init__(self, host: str, port: int) -> None:
        from pymemcache.client.base import PooledClient

        self._client = PooledClient((host, port), timeout=TIMEOUT_S, connect_timeout=TIMEOUT_S, no_delay=True)

    def get(self, key: str) -> bytes | None:
        found = self._client.get(key)
        return found if isinstance(found, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        self._client.set(key, value, expire=KEEP_S, noreply=False)

    def close(self) -> None:
        self._client.close()


class SharedEmbeddings:
    """A server that costs at most one time-out now and then: after a failure it is left alone for a while, which doubles."""

    def __init__(self, blobs: BlobCache, clock: Callable[[], float] = time.monotonic) -> None:
        self.blobs = blobs
        self.clock = clock
        self.failures = 0  #: in a row
        self._closed_until = 0.0

    def get(self, key: str) -> Embedding | None:
        return None if self._is_closed() else _unpacked(self._try(lambda: self.blobs.get(key)))

    def put(self, key: str, value: Embedding) -> None:
        if self._is_closed() or _size(value) >= self.blobs.max_bytes:
            return
        data = _packed(value)
        if len(data) <= self.blobs.max_bytes:
            self._try(lambda: self.blobs.put(key, data))

    def close(self) -> None:
        self.blobs.close()

    def _is_closed(self) -> bool:
        return self.clock() < self._closed_until

    def _try(self, call: Callable[[], bytes | None]) -> bytes | None:
        try:
            found = call()
        except Exception as error:  # whatever the server's client raises is a miss
            self.failures += 1
            pause_s = min(FIRST_PAUSE_S * 2.0 ** (self.failures - 1), LONGEST_PAUSE_S)
            self._closed_until = self.clock() + pause_s
            log.warning("the embeddings cache is away and left alone for %.0f s: %s", pause_s, error or type(error).__name__)
            return None
        self.failures = 0
        return found


def shared_embeddings(address: str) -> SharedEmbeddings | None:
    """The server at ``redis://host:port/db``, ``rediss://…`` or ``memcached://host:port``; None where the address is empty.

    Nothing is connected yet. Raises :class:`ValueError` for any other address.
    """
    if not address:
        return None
    url = urlsplit(address)
    if url.scheme in ("redis", "rediss") and url.hostname:
        return SharedEmbeddings(RedisBlobs(address))
    if url.scheme == "memcached" and url.hostname:
        return SharedEmbeddings(MemcachedBlobs(url.hostname, url.port or 11211))
    raise ValueError(f"ATELIER_EMBEDDINGS_CACHE: {url.scheme or address!r} is not known; use redis://HOST:PORT/DB or memcached://HOST:PORT")


def _size(value: Embedding) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in value.values())


def _packed(value: Embedding) -> bytes:
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in value.items()})
    return hashlib.sha256(data).digest() + data


def _unpacked(blob: bytes | None) -> Embedding | None:
    if blob is None or hashlib.sha256(blob[DIGEST_BYTES:]).digest() != blob[:DIGEST_BYTES]:
        return None
    try:
        return load(blob[DIGEST_BYTES:])
    except (SafetensorError, ValueError, KeyError):
        return None


def vector_of(embedding: Embedding) -> Tensor:
    """One vector of length 1 for the text: the pooled state where there is one, else the mean of the token states."""
    floats = [tensor.detach().float().cpu() for tensor in embedding.values() if tensor.is_floating_point()]
    pooled = next((tensor for tensor in floats if tensor.dim() == 2), None)
    vector = floats[0].mean(1) if pooled is None else pooled
    return torch.nn.functional.normalize(vector.flatten(), dim=0)
