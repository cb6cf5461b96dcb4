"""Loaded models: the versions used most recently stay, and a coming one loads beside them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from include.contracts.dispatch import ModelRef
from include.registry.errors import RegistryUnavailableError
from include.worker.golden import Check, no_check
from include.worker.memory import free_memory, is_out_of_memory, memory_bytes
from include.worker.pace import Unhurried, at_low_priority
from include.worker.pipeline import Loader, Pipeline

log = logging.getLogger(__name__)

REFUSED_FOR_S = 60.0  #: a version that failed for good is tried again no sooner
MAX_REFUSALS = 64


class Fetcher(Protocol):
    def fetch(self, ref: ModelRef) -> Path:
        """Its directory, there until it is released."""

    def release(self, ref: ModelRef) -> None:
        """Its files are read no more."""


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


class Rehearsal(Protocol):
    def __call__(self, pipeline: Pipeline, ref: ModelRef, go_on: Callable[[], bool], /) -> None:
        """Never raises; asks ``go_on`` before each call of the pipeline and ends where it says no."""


def no_rehearsal(pipeline: Pipeline, ref: ModelRef, go_on: Callable[[], bool], /) -> None:
    """Whatever its first work needs is done with that."""


@dataclass(frozen=True)
class Load:
    """One under way."""

    unhurried: Unhurried
    future: Future[Loaded] = field(default_factory=Future)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    reason: str
    until: float  #: by the cache's clock; then whoever asks for the version gets another try


@dataclass(kw_only=True)
class CacheFigures:
    """Counts since the start."""

    hits: int = 0
    loads: int = 0
    failures: int = 0
    evictions: int = 0
    load_s: float = 0.0  #: of all loads together


class ModelCache:
    """An evicted version's memory is freed once the render that uses it is done.

    A version that fails to load or to pass ``check`` for good is refused: :meth:`refused` tells it with the reason, and the versions
    that were loaded before stay.

    :param max_models: versions kept at most
    :param max_bytes: bytes of weights kept at most, except that one version always may stay; None: no such bound
    :param check: of each pipeline after its load
    :param rehearse: what else is better done before a version loaded ahead gets its first work
    :param unhurried: how work ahead leaves the device to others
    """

    def __init__(
        self,
        fetcher: Fetcher,
        loader: Loader,
        device: str = "cpu",
        *,
        max_models: int = 3,
        max_bytes: int | None = None,
        check: Check = no_check,
        rehearse: Rehearsal = no_rehearsal,
        unhurried: Callable[[], Unhurried] = Unhurried,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fetcher = fetcher
        self.loader = loader
        self.device = device
        self.max_models = max_models
        self.max_bytes = max_bytes
        self.check = check
        self.rehearse = rehearse
        self.unhurried = unhurried
        self.clock = clock
        self.figures = CacheFigures()
        self.on_change: Callable[[], None] = lambda: None  #: called after a load and after a refusal, in the thread that asked
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, Load] = {}
        self._refused: OrderedDict[str, Refusal] = OrderedDict()

    def get(self, ref: ModelRef, *, ahead: bool = False) -> Pipeline:
        """The pipeline, loaded now unless it is here or on its way. Raises :class:`ModelLoadError`.

        :param ahead: nobody waits for it, so the load may take its time and rehearse
        """
        with self._lock:
            found = self._loaded.get(ref.digest)
            if found is not None:
                self._loaded.move_to_end(ref.digest)
                self.figures.hits += 1
                found.names[ref.key] = None
                return found.pipeline
            self._raise_if_refused(ref)
            load, ours = self._loading.get(ref.digest), False
            if load is None:
                load, ours = Load(self.unhurried()), True
                self._loading[ref.digest] = load
        if not ahead:
            load.unhurried.hurry()
        if ours:
            self._load_into(load, ref)
        loaded = load.future.result()
        with self._lock:
            loaded.names[ref.key] = None
        if ours:
            self.on_change()
        return loaded.pipeline

    def renew(self, digest: str) -> None:
        """Load the version anew, if it is here, and give that to new work; what runs ends on the one it began with."""
        with self._lock:
            found = self._loaded.get(digest)
        if found is None:
            return
        try:
            pipeline = self._pipeline(found.ref, self.unhurried())
        except Exception as error:  # the one that is here serves on
            log.warning("%s is not loaded anew: %s", found.ref.key, error)
            return
        with self._lock:
            if self._loaded.get(digest) is found:
                self._loaded[digest] = replace(found, pipeline=pipeline)
            elif digest not in self._loaded:
                self.fetcher.release(found.ref)  # evicted meanwhile

    def has(self, ref: ModelRef) -> bool:
        with self._lock:
            found = self._loaded.get(ref.digest)
            return found is not None and ref.key in found.names

    def has_room(self) -> bool:
        """Whether another version as large as the largest that is loaded takes nobody's place."""
        with self._lock:
            largest = max((loaded.bytes for loaded in self._loaded.values()), default=0)
            fits = self.max_bytes is None or self._bytes() + largest <= self.max_bytes
            return fits and len(self._loaded) < self.max_models

    def warm(self) -> tuple[str, ...]:
        """Loaded versions as name/version, the one used last at the end."""
        with self._lock:
            return tuple(name for loaded in self._loaded.values() for name in loaded.names)

    def refused(self) -> dict[str, str]:
        """Versions as name/version that won't be served, each with the reason; a later try that succeeds takes one off."""
        with self._lock:
            return {name: refusal.reason for name, refusal in self._refused.items()}

    def measured(self) -> dict[str, float]:
        """Counts since the start, and what is loaded now in bytes."""
        with self._lock:
            return {**asdict(self.figures), "bytes": self._bytes(), "models": len(self._loaded)}

    @property
    def bytes(self) -> int:
        with self._lock:
            return self._bytes()

    def _raise_if_refused(self, ref: ModelRef) -> None:
        refusal = self._refused.get(ref.key)
        if refusal is not None and self.clock() < refusal.until:
            raise ModelLoadError(refusal.reason, retryable=False)

    def _load_into(self, load: Load, ref: ModelRef) -> None:
        try:
            loaded = self._load(ref, load.unhurried)
        except ModelLoadError as error:
            self._give_up(ref, error)
            load.future.set_exception(error)
            self.on_change()
            return
        with self._lock:
            del self._loading[ref.digest]
            self._loaded[ref.digest] = loaded
            self._refused.pop(ref.key, None)
            self.figures.loads += 1
            self.figures.load_s += loaded.load_s
            self._evict()
        load.future.set_result(loaded)

    def _give_up(self, ref: ModelRef, error: ModelLoadError) -> None:
        self.fetcher.release(ref)
        with self._lock:
            del self._loading[ref.digest]
            self.figures.failures += 1
            if error.retryable:
                return
            log.error("version %s is refused: %s", ref.key, error)
            self._refused[ref.key] = Refusal(reason=str(error), until=self.clock() + REFUSED_FOR_S)
            while len(self._refused) > MAX_REFUSALS:
                self._refused.popitem(last=False)

    def _load(self, ref: ModelRef, unhurried: Unhurried) -> Loaded:
        began = time.perf_counter()
        try:
            pipeline = self._pipeline(ref, unhurried)
        except RegistryUnavailableError as error:
            raise ModelLoadError(str(error), retryable=True) from error
        except Exception as error:  # whatever a model's files make the libraries raise ends the load, never the worker
            raise ModelLoadError(f"{ref.key} can't be served: {error}", retryable=is_of_this_machine(error)) from error
        loaded = Loaded(ref, pipeline, memory_bytes(pipeline), time.perf_counter() - began)
        log.info("loaded %s: %.1f MB of weights in %.2f s", ref.key, loaded.bytes / 1e6, loaded.load_s)
        return loaded

    def _pipeline(self, ref: ModelRef, unhurried: Unhurried) -> Pipeline:
        """Loaded, checked and, where nobody waits for it, rehearsed. Where memory is short, what was not used last makes room for a
        second try."""
        fetch = self.fetcher.fetch
        directory = fetch(ref) if unhurried.awaited else at_low_priority(fetch, ref)
        try:
            pipeline = self.loader(directory, self.device)
        except Exception as error:
            if not is_out_of_memory(error) or not self._make_room():
                raise
            pipeline = self.loader(directory, self.device)
        self.check(directory, pipeline, unhurried.go_on)
        if not unhurried.awaited:
            self.rehearse(pipeline, ref, unhurried.go_on)
        return pipeline

    def _make_room(self) -> bool:
        """Evict all but the version used last; whether there was one to evict."""
        with self._lock:
            many = len(self._loaded) > 1
            while len(self._loaded) > 1:
                self._drop_oldest()
        free_memory(self.device)
        return many

    def _evict(self) -> None:
        while len(self._loaded) > self.max_models or (
            self.max_bytes is not None and self._bytes() > self.max_bytes and len(self._loaded) > 1
        ):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, oldest = self._loaded.popitem(last=False)
        self.fetcher.release(oldest.ref)
        self.figures.evictions += 1
        log.info("evicted %s, %.1f MB", oldest.ref.key, oldest.bytes / 1e6)

    def _bytes(self) -> int:
        return sum(loaded.bytes for loaded in self._loaded.values())


def is_of_this_machine(error: Exception) -> bool:
    """Whether it may load elsewhere: the files were verified, so what is not for want of memory or disk is the model's own fault."""
    from_the_system = isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)
    return from_the_system or is_out_of_memory(error)
