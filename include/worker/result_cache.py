"""Images that a tenant got before, given again in place of a render: the same image, or under load one of a prompt nearly alike."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field, ValidationError

from include.contracts.base import Part, Timestamp
from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.events import ImageResult
from include.contracts.objects import image_key, result_key
from include.contracts.requests import derived_seed, owns
from include.storage import ObjectStore, StoreError
from include.worker.near import NearIndex
from include.worker.pipeline import Pipeline
from include.worker.ports import Found
from include.worker.render import MAX_SEED

log = logging.getLogger(__name__)

KEEP_S = 24 * 3600.0
PAUSE_S = 30.0  #: how long the cache is left alone after the store did not answer
AT_MOST = 64  #: entries that wait to be written; more are dropped


class Entry(Part):
    """What is under :func:`include.contracts.objects.result_key`."""

    at: Timestamp = Field(description="When the image was made.")
    image: ImageResult = Field(description="As it was reported then, under the key of the request that it was made for.")


class StoredResults:
    """As :class:`include.worker.ports.ResultCache`. An entry is a small object that names the image; the image is verified by its digest
    and copied to the key of the request that it answers.

    A request without a seed of its own has one that no other has, so of those nothing is kept but what ``near`` may use.

    :param near: earlier images by what their prompts mean; None: only the same image will do
    :param keep_s: how long an entry counts; 0 turns the exact cache off
    :param safety: what decides which images may be served, such as the checker's mode and model
    """

    def __init__(
        self,
        store: ObjectStore,
        near: NearIndex | None = None,
        *,
        keep_s: float = KEEP_S,
        safety: str = "off",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.near = near
        self.keep_s = keep_s
        self.safety = safety
        self.clock = clock
        self.hits = 0
        self.misses = 0
        self.near_hits = 0
        self._away_until = 0.0
        self._writer = ThreadPoolExecutor(1, "result-cache")
        self._room = threading.Semaphore(AT_MOST)

    def find(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
        if self.clock() < self._away_until:
            return None
        try:
            return self._exact(task, index, model, pipeline) or self._alike(task, index, model, pipeline)
        except Exception as error:  # neither a store that is away nor a prompt that can't be encoded may end the lease here
            log.warning("the result cache is left alone for %.0f s: %s", PAUSE_S, error)
            self._away_until = self.clock() + PAUSE_S
            return None

    def remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
        try:
            self._remember(task, image, model, pipeline)
        except Exception as error:  # the request is answered already
            log.warning("%s is not kept for later requests: %s", image.key, error)

    def _remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
        if self.near is not None:
            self.near.remember(task, image, model, pipeline)
        if not self._keeps(task):
            return
        key, entry = self._key(task, image.index, model, pipeline), Entry(at=self.clock(), image=image)
        if self._room.acquire(blocking=False):
            self._writer.submit(self._write, key, entry)

    def close(self) -> None:
        """Writes what waits to be written."""
        self._writer.shutdown()

    def _keeps(self, task: RenderTask) -> bool:
        return self.keep_s > 0 and task.seed != derived_seed(task.request_id)

    def _exact(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
        if not self._keeps(task):
            return None
        entry = self._read(task, self._key(task, index, model, pipeline))
        image = None if entry is None else self._copy(entry.image, task, index)
        if image is None:
            self.misses += 1
            return None
        self.hits += 1
        return Found(image, "result")

    def _alike(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
        if self.near is None or task.near is None:
            return None
        match = self.near.find(task, model, pipeline)
        image = None if match is None else self._copy(match.image, task, index)
        if match is None or image is None:
            return None
        self.near_hits += 1
        words = f"an image made before in place of its own: its prompt's similarity is {match.similarity:.2f}"
        return Found(image, "near", (words,))

    def _read(self, task: RenderTask, key: str) -> Entry | None:
        """None for an entry that is missing, too old, none of ours or of an image that is not this tenant's."""
        try:
            entry = Entry.model_validate_json(self.store.get(key))
        except (ValidationError, KeyError):
            return None
        fresh = self.clock() - entry.at <= self.keep_s
        return entry if fresh and owns(task.tenant, entry.image.key) else None

    def _copy(self, image: ImageResult, task: RenderTask, index: int) -> ImageResult | None:
        """The image under the request's own key; None where it is gone or not what it was."""
        try:
            data = self.store.get(image.key)
        except KeyError:
            return None
        if hashlib.sha256(data).hexdigest() != image.sha256:
            log.warning("%s is not the image that the result cache knows; rendered anew", image.key)
            return None
        key = image_key(task.tenant, task.request_id, index, task.image_format)
        stored = self.store.put_if_absent(key, data, image.media_type)
        if stored.sha256 != image.sha256:
            return None  # an earlier attempt stored its own
        return image.model_copy(update={"key": key, "index": index})

    def _write(self, key: str, entry: Entry) -> None:
        try:
            self.store.put(key, entry.model_dump_json().encode(), "application/json")
        except StoreError as error:
            log.warning("%s is not kept for later requests: %s", entry.image.key, error)
        finally:
            self._room.release()

    def _key(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> str:
        start = None if task.init_image is None else self.store.head(task.init_image)
        return result_key(task.tenant, fingerprint(task, index, model, pipeline.backend, self.safety, start.sha256 if start else None))


def fingerprint(task: RenderTask, index: int, model: ModelRef, backend: str, safety: str, start: str | None) -> str:
    """Of everything that decides the stored bytes, the parameters in their metadata included, and whether they may be served.

    :param start: digest of the image to start from
    """
    content = task.model_dump(mode="json", exclude={"request_id", "tenant", "images", "init_image", "near"})
    facts = {
        **content,
        "adapters": [[adapter.model.digest, adapter.weight] for adapter in task.adapters],
        "seed": (task.seed + index) % MAX_SEED,
        "model": [model.key, model.digest],
        "backend": backend,
        "safety": safety,
        "start": start,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
