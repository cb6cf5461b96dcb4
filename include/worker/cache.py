"""Loaded models: the versions used most recently stay, and a coming one loads beside them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from include.contracts.dispatch import ModelRef
from include.registry.errors import RegistryUnavailableError
from include.worker.memory import is_out_of_memory, memory_bytes
from include.worker.pipeline import Loader, Pipeline

log = logging.getLogger(__name__)


class Fetcher(Protocol):
    def fetch(self, ref: ModelRef) -> Path: ...


class ModelLoadError(Exception):
    """The version can't be rendered with."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable  #: whether it may load at another time or place


@dataclass(frozen=True)
class Loaded:
    ref: ModelRef
    pipeline: Pipeline
    bytes: int
    load_s: float
    names: dict[str, None] = field(default_factory=dict)  #: every name/version it was asked for as: two versions may have the same files


class ModelCache:
    """An evicted version's memory is freed once the render that uses it is done.

    :param max_models: versions kept at most
    :param max_bytes: bytes of weights kept at most, except that one version always may stay; None: no such bound
    """

    def __init__(self, fetcher: Fetcher, loader: Loader, device: str = "cpu", *, max_models: int = 3, max_bytes: int | None = None) -> None:
        self.fetcher = fetcher
        self.loader = loader
        self.device = device
        self.max_models = max_models
        self.max_bytes = max_bytes
        self.hits = 0
        self.loads = 0
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, Future[Loaded]] = {}

    def get(self, ref: ModelRef) -> Pipeline:
        """The pipeline, loaded now unless it is here or on its way. Raises :class:`ModelLoadError`."""
        with self._lock:
            found = self._loaded.get(ref.digest)
            if found is not None:
                self._loaded.move_to_end(ref.digest)
                self.hits += 1
                found.names[ref.key] = None
                return found.pipeline
            future, ours = self._loading.get(ref.digest), False
            if future is None:
                future, ours = Future(), True
                self._loading[ref.digest] = future
        if ours:
            self._load_into(future, ref)
        loaded = future.result()
        with self._lock:
            loaded.names[ref.key] = None
        return loaded.pipeline

    def has(self, ref: ModelRef) -> bool:
        with self._lock:
            found = self._loaded.get(ref.digest)
            return found is not None and ref.key in found.names

    def warm(self) -> tuple[str, ...]:
        """Loaded versions as name/version, the one used last at the end."""
        with self._lock:
            return tuple(name for loaded in self._loaded.values() for name in loaded.names)

    @property
    def bytes(self) -> int:
        with self._lock:
            return self._bytes()

    def _load_into(self, future: Future[Loaded], ref: ModelRef) -> None:
        try:
            loaded = self._load(ref)
        except ModelLoadError as error:
            with self._lock:
                del self._loading[ref.digest]
            future.set_exception(error)
            return
        with self._lock:
            del self._loading[ref.digest]
            self._loaded[ref.digest] = loaded
            self.loads += 1
            self._evict()
        future.set_result(loaded)

    def _load(self, ref: ModelRef) -> Loaded:
        began = time.perf_counter()
        try:
            pipeline = self.loader(self.fetcher.fetch(ref), self.device)
        except RegistryUnavailableError as error:
            raise ModelLoadError(str(error), retryable=True) from error
        except Exception as error:  # whatever a model's files make the libraries raise ends the load, never the worker
            raise ModelLoadError(f"{ref.key} can't be served: {error}", retryable=_is_of_this_machine(error)) from error
        loaded = Loaded(ref, pipeline, memory_bytes(pipeline), time.perf_counter() - began)
        log.info("loaded %s: %.1f MB of weights in %.2f s", ref.key, loaded.bytes / 1e6, loaded.load_s)
        return loaded

    def _evict(self) -> None:
        while len(self._loaded) > self.max_models or (
            self.max_bytes is not None and self._bytes() > self.max_bytes and len(self._loaded) > 1
        ):
            _, oldest = self._loaded.popitem(last=False)
            log.info("evicted %s", oldest.ref.key)

    def _bytes(self) -> int:
        return sum(loaded.bytes for loaded in self._loaded.values())


def _is_of_this_machine(error: Exception) -> bool:
    """Whether it may load elsewhere: the files were verified, so what is not for want of memory or disk is the model's own fault."""
    from_the_system = isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)
    return from_the_system or is_out_of_memory(error)
