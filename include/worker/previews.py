"""Small pictures of running requests, written beside the render: never a reason for it to wait or to fail."""

from __future__ import annotations

import io
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from PIL.Image import Image

from include.contracts.dispatch import Lease, RenderTask
from include.contracts.objects import preview_key
from include.storage import ObjectStore

log = logging.getLogger(__name__)

LONGEST_SIDE, QUALITY = 64, 80
AT_MOST = 32  #: previews that wait to be written; more are dropped


class Wake(Enum):
    DELETE = auto()  #: there are keys to delete
    END = auto()


@dataclass(frozen=True)
class Preview:
    lease_id: str
    key: str
    image: Image


class PreviewWriter:
    """One thread that writes the newest preview of each request over the one before, and deletes it when the request is over."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.dropped = 0
        self._jobs: queue.Queue[Preview | Wake] = queue.Queue(AT_MOST)
        self._lock = threading.Lock()
        self._written: dict[str, dict[str, None]] = {}
        self._there: set[str] = set()  #: keys that were handed in and not given up since
        self._doomed: list[str] = []  #: keys to delete, which a full queue must not lose
        self._thread = threading.Thread(target=self._write_all, name="previews", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether what is handed in now would be dropped, as while the store is slow or away."""
        return self._jobs.full()

    @property
    def idle(self) -> bool:
        """Whether everything that was handed in is written or dropped."""
        return self._jobs.unfinished_tasks == 0

    def offer(self, lease_id: str, tasks: Sequence[RenderTask], images: Sequence[Image]) -> None:
        """Write these soon, an image a task, unless too many wait already."""
        for task, image in zip(tasks, images, strict=True):
            preview = Preview(lease_id, preview_key(task.tenant, task.request_id), image)
            with self._lock:
                self._there.add(preview.key)
            self._put(preview)

    def take_written(self, lease_id: str) -> list[str]:
        """Keys of a lease's previews that were written since the last question."""
        with self._lock:
            return list(self._written.pop(lease_id, ()))

    def discard(self, lease: Lease) -> None:
        """The lease is over: its previews go."""
        keys = {preview_key(task.tenant, task.request_id) for task in lease.tasks}
        with self._lock:
            self._written.pop(lease.lease_id, None)
            doomed = keys & self._there
            self._there -= doomed
            self._doomed += doomed
        if doomed:
            self._put(Wake.DELETE)

    def close(self, timeout_s: float) -> None:
        """Ends the thread once it has written what waits, or leaves it after so long."""
        until = time.monotonic() + timeout_s
        try:
            self._jobs.put(Wake.END, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, until - time.monotonic()))

    def _put(self, job: Preview | Wake) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.dropped += isinstance(job, Preview)

    def _write_all(self) -> None:
        while (job := self._jobs.get()) is not Wake.END:
            try:
                if isinstance(job, Preview):
                    self._write(job)
                self._delete_doomed()
            except Exception as error:  # a preview less
                log.debug("preview: %s", error)
            self._jobs.task_done()

    def _delete_doomed(self) -> None:
        with self._lock:
            doomed, self._doomed = self._doomed, []
        for key in doomed:
            self.store.delete(key)

    def _write(self, preview: Preview) -> None:
        with self._lock:
            if preview.key not in self._there:
                return  # its request was over before it could be written
        self.store.put(preview.key, encode_preview(preview.image), "image/jpeg")
        with self._lock:
            self._written.setdefault(preview.lease_id, {})[preview.key] = None


def encode_preview(image: Image) -> bytes:
    """JPEG of at most :data:`LONGEST_SIDE` pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
