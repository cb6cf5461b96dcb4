"""Finished images into the object store, patiently."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from typing import TypeVar

from PIL.Image import Image

from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.events import ImageResult
from include.contracts.objects import MEDIA_TYPES, image_key
from include.storage import ObjectInfo, ObjectStore, StoreRefusedError, StoreUnavailable
from include.storage.limits import started
from include.worker.encoding import encode_image, parameters_of, scaled_up
from include.worker.ports import UnwantedError, always
from include.worker.render import MAX_SEED, Item

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
LOOK_EVERY_S = 0.1  #: while it waits, whether somebody still wants it
LAST_ANSWER_S = 5.0  #: for which a worker that ends still waits


class ResultStore:
    """While the store is away, calls wait and try again; where it refuses, they don't.

    Each call is given ``wanted``, which is asked while it waits, for an answer too: once it says no, :class:`UnwantedError` is raised.

    :param patience_s: for so long; then :class:`StoreUnavailable` is raised
    :param abandon: set to stop waiting at once
    """

    def __init__(self, store: ObjectStore, patience_s: float, abandon: threading.Event) -> None:
        self.store = store
        self.patience_s = patience_s
        self.abandon = abandon

    def existing(self, task: RenderTask, wanted: Callable[[], bool] = always) -> list[ImageResult]:
        """Those of a request's images that are stored."""
        found: list[ImageResult] = []
        for index in range(task.images):
            key = image_key(task.tenant, task.request_id, index, task.image_format)
            info = self.patiently(partial(self.store.head, key), wanted)
            if info is not None:
                found.append(_described(task, index, info))
        return found

    def put(
        self, item: Item, image: Image, model: ModelRef, flags: tuple[str, ...] = (), wanted: Callable[[], bool] = always
    ) -> tuple[ImageResult, bool]:
        """What is stored for the item, at the size that was asked for, and whether it was there before.

        :param flags: what the safety checker saw in it
        """
        task = item.task
        image = scaled_up(image, task)
        data = encode_image(image, task.image_format, parameters_of(item, model))
        key = image_key(task.tenant, task.request_id, item.index, task.image_format)
        media_type = MEDIA_TYPES[task.image_format]
        stored = self.patiently(partial(self.store.put_if_absent, key, data, media_type), wanted)
        result = ImageResult(
            index=item.index,
            key=key,
            sha256=stored.sha256,
            size_bytes=stored.size,
            width=image.width,
            height=image.height,
            seed=item.seed,
            media_type=media_type,
            flags=flags,
        )
        return result, not stored.created

    def patiently(self, call: Callable[[], T], wanted: Callable[[], bool] = always) -> T:
        """What ``call`` gives once the store is there."""
        give_up_at, pause_s = time.monotonic() + self.patience_s, FIRST_PAUSE_S
        while True:
            try:
                return self.answered(call, wanted)
            except StoreRefusedError:
                raise
            except StoreUnavailable as error:
                if time.monotonic() + pause_s > give_up_at or self.abandon.is_set():
                    raise
                log.warning("the store is away, next try in %.1f s: %s", pause_s, error)
            self._pause(pause_s, wanted)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def answered(self, call: Callable[[], T], wanted: Callable[[], bool] = always) -> T:
        """What ``call`` gives or raises, tried once. To a remote store it has a thread of its own, which is left to itself where nobody
        wants its answer any more: that a server is gone may take a minute to be noticed."""
        if not self.store.remote:
            return call()
        answer, began = started(call), time.monotonic()
        while not wait([answer], LOOK_EVERY_S).done:
            _go_on(wanted)
            if self.abandon.is_set() and time.monotonic() - began > LAST_ANSWER_S:
                raise StoreUnavailable("the worker ends before the store has answered")
        return answer.result()

    def _pause(self, pause_s: float, wanted: Callable[[], bool]) -> None:
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0 and not self.abandon.wait(min(left_s, LOOK_EVERY_S)):
            _go_on(wanted)


def _go_on(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise UnwantedError


def _described(task: RenderTask, index: int, info: ObjectInfo) -> ImageResult:
    width, height = task.upscale_to or (task.width, task.height)
    return ImageResult(
        index=index,
        key=info.key,
        sha256=info.sha256,
        size_bytes=info.size,
        width=width,
        height=height,
        seed=(task.seed + index) % MAX_SEED,
        media_type=MEDIA_TYPES[task.image_format],
    )
