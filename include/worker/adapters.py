"""LoRA adapters of a lease: fetched, verified, and put on the model without loading it anew.

An execution asks once for the pipeline that it renders with::

    pipeline = shelf.put_on(cache.get(lease.model), lease.tasks[0].adapters)

Requests of one micro-batch share their adapters, because the batch key's variant names them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from include.contracts.dispatch import AdapterRef, ModelRef
from include.registry.errors import RegistryUnavailableError
from include.worker.cache import Fetcher, ModelLoadError, is_of_this_machine
from include.worker.pipeline import Adaptable, Pipeline

MAX_KNOWN = 64  #: adapters whose files are kept on this machine


class AdapterShelf:
    """Where the verified files of adapters are. What a pipeline has loaded already is not fetched and verified again."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self._known: OrderedDict[str, tuple[ModelRef, Path]] = OrderedDict()  #: by digest; not released

    def put_on(self, pipeline: Pipeline, adapters: Sequence[AdapterRef]) -> Pipeline:
        """The pipeline with these adapters, itself without any. Raises :class:`ModelLoadError` where one can't be had or does not fit."""
        if not adapters:
            return pipeline
        names = ", ".join(adapter.model.key for adapter in adapters)
        if not isinstance(pipeline, Adaptable):
            raise ModelLoadError(f"{names}: backend {pipeline.backend} takes no adapters; use torch-eager", retryable=True)
        try:
            return pipeline.with_adapters([(self._path(pipeline, adapter.model), adapter.weight) for adapter in adapters])
        except RegistryUnavailableError as error:
            raise ModelLoadError(str(error), retryable=True) from error
        except Exception as error:  # whatever an adapter's files make the libraries raise ends the load, never the worker
            raise ModelLoadError(f"{names} can't be used: {error}", retryable=is_of_this_machine(error)) from error

    def _path(self, pipeline: Adaptable, ref: ModelRef) -> Path:
        known = self._known.get(ref.digest)
        if known is None or not pipeline.holds(known[1]):
            self._known[ref.digest] = known = (ref, self.fetcher.fetch(ref))
        self._known.move_to_end(ref.digest)
        if len(self._known) > MAX_KNOWN:
            self.fetcher.release(self._known.popitem(last=False)[1][0])
        return known[1]
