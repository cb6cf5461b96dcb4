"""What an edge worker says, checked before it reaches the router: it speaks for itself, of its own leases, and of what is really stored."""

from __future__ import annotations

import json
import time
from typing import Any

from pydantic import ValidationError

from include.contracts.dispatch import Lease, RenderTask
from include.contracts.errors import ReasonCode, refusal_of
from include.contracts.events import ImageResult
from include.contracts.objects import MEDIA_TYPES, image_key, preview_key
from include.contracts.workers import AnyWorkerMessage, Completed, Credit, Failed, RenderProgress, Started, worker_messages
from include.gateway.edge.book import MAX_LEASES, LeaseBook
from include.gateway.errors import ApiError, forbidden, refused
from include.storage import ObjectStore

MAX_REPORTS, MAX_REPORTS_BYTES = 100, 1 << 20


def parse_reports(body: bytes) -> list[Any]:
    """The reports of a body, unchecked. Raises :class:`ApiError`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(422, ReasonCode.INVALID_MESSAGE, f"not valid JSON: {error}"[:2000]) from error
    if not isinstance(found, list) or len(found) > MAX_REPORTS:
        raise ApiError(422, ReasonCode.INVALID_MESSAGE, f"the body must be an array of at most {MAX_REPORTS} worker messages")
    return found


class ReportDesk:
    """Checks the reports of one worker's incarnation."""

    def __init__(self, *, worker_id: str, incarnation: str, cell: str, book: LeaseBook, store: ObjectStore) -> None:
        self.identity = {"worker_id": worker_id, "incarnation": incarnation, "cell": cell, "pool": book.pool}
        self.worker_id = worker_id
        self.book = book
        self.store = store

    def check(self, report: Any) -> AnyWorkerMessage:
        """The message, with the gateway's time on it: the clock of a machine out there is not to be relied on.

        Raises :class:`ApiError`, and :class:`~include.storage.StoreUnavailable` where the store can't be asked for the images.
        """
        try:
            message = worker_messages.validate_python({**report, "at": time.time()} if isinstance(report, dict) else report)
        except ValidationError as error:
            raise refused(refusal_of(error)) from error
        for name, own in self.identity.items():
            if getattr(message, name) != own:
                raise forbidden(f"{name}: this worker is {own} and can't speak as {getattr(message, name)}", name)
        if isinstance(message, Credit):
            self._check_held(message)
        elif isinstance(message, Started | RenderProgress | Completed | Failed):
            self._check_lease(message)
        return message

    def _check_held(self, message: Credit) -> None:
        if len(message.held) > MAX_LEASES:
            raise ApiError(422, ReasonCode.INVALID_FIELD, f"held: at most {MAX_LEASES} leases", field="held")
        for lease_id in message.held:
            if self.book.lease(self.worker_id, lease_id) is None and self.book.holder(lease_id) is not None:
                raise forbidden(f"held: lease {lease_id} is another worker's", "held")

    def _check_lease(self, message: Started | RenderProgress | Completed | Failed) -> None:
        lease = self.book.lease(self.worker_id, message.lease_id)
        if lease is None:
            raise forbidden(f"lease_id: {message.lease_id} is no lease of worker {self.worker_id}", "lease_id")
        if isinstance(message, RenderProgress):
            self._check_previews(message, lease)
        elif isinstance(message, Completed):
            self._check_images(message, _task(lease, message.request_id))
        elif isinstance(message, Failed) and message.request_id is not None:
            _task(lease, message.request_id)

    def _check_previews(self, message: RenderProgress, lease: Lease) -> None:
        own = {preview_key(task.tenant, task.request_id) for task in lease.tasks}
        if not own.issuperset(message.progress.previews):
            raise forbidden("progress.previews: names an object that is no preview of this lease", "progress.previews")

    def _check_images(self, message: Completed, task: RenderTask) -> None:
        for image in message.images:
            field = f"images.{image.index}"
            if image.index >= task.images or image.key != image_key(task.tenant, task.request_id, image.index, task.image_format):
                raise forbidden(f"{field}.key: not the place of an image of request {task.request_id}", f"{field}.key")
            if image.media_type != MEDIA_TYPES[task.image_format]:
                raise forbidden(f"{field}.media_type: must be {MEDIA_TYPES[task.image_format]}", f"{field}.media_type")
            self._check_stored(image, field)

    def _check_stored(self, image: ImageResult, field: str) -> None:
        info = self.store.head(image.key)
        if info is None or (info.sha256, info.size) != (image.sha256, image.size_bytes):
            what = "nothing is stored there" if info is None else "what is stored there has another digest"
            raise ApiError(422, ReasonCode.INVALID_FIELD, f"{field}: {what}", field=field)


def _task(lease: Lease, request_id: str) -> RenderTask:
    task = next((task for task in lease.tasks if task.request_id == request_id), None)
    if task is None:
        raise forbidden(f"request_id: {request_id} is not of lease {lease.lease_id}", "request_id")
    return task
