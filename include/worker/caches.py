"""The caches and the safety checker of a worker, as its settings say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from include.config import Settings
from include.registry.fetch import ModelFetcher
from include.storage import ObjectStore
from include.worker.embeddings import shared_embeddings
from include.worker.memory import model_budget
from include.worker.near import NearIndex
from include.worker.ports import NoResultCache, ResultCache, SafetyChecker, SafetyMode
from include.worker.prompt_cache import PromptCache
from include.worker.result_cache import StoredResults
from include.worker.safety import safety_checker


@dataclass(frozen=True, kw_only=True)
class Caches:
    prompts: PromptCache
    results: ResultCache
    safety: SafetyChecker

    def figures(self) -> dict[str, Any]:
        """Hits and misses since the start."""
        found: dict[str, Any] = {"prompt_hits": self.prompts.hits, "prompt_misses": self.prompts.misses}
        if isinstance(self.results, StoredResults):
            found |= {"result_hits": self.results.hits, "result_misses": self.results.misses, "near_hits": self.results.near_hits}
        return found

    def close(self) -> None:
        """Writes what waits to be written."""
        if isinstance(self.results, StoredResults):
            self.results.close()
        if self.prompts.shared is not None:
            self.prompts.shared.close()


def caches_of(settings: Settings, store: ObjectStore, fetcher: ModelFetcher, *, device: str, edge: bool) -> Caches:
    """Raises :class:`SafetyConfigError`, and :class:`ValueError` for an unknown kind of embeddings cache.

    :param edge: the worker reaches the gateway alone, which would cost a request more than it would save
    """
    prompts = PromptCache(fetcher.files, shared=None if edge else shared_embeddings(settings.embeddings_cache))
    labels = [label.strip() for label in settings.safety_labels.split(",") if label.strip()]
    safety = safety_checker(SafetyMode(settings.safety), settings.safety_model, labels, threshold=settings.safety_threshold, device=device)
    served = f"{settings.safety}|{settings.safety_model}|{','.join(labels)}|{settings.safety_threshold:g}"
    results: ResultCache = NoResultCache()
    if not edge:
        results = StoredResults(store, NearIndex(prompts), keep_s=settings.result_cache_s, safety=served)
    return Caches(prompts=prompts, results=results, safety=safety)


def weights_budget(settings: Settings, device: str) -> int:
    """Bytes of weights that may stay loaded."""
    return int(settings.model_memory_gb * 1e9) if settings.model_memory_gb else model_budget(device)
