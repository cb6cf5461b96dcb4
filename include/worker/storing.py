"""From a finished image to the completion of its request."""

from __future__ import annotations

import logging
from functools import partial

from PIL.Image import Image

from include.contracts.errors import ReasonCode
from include.storage import StoreError, StoreUnavailable
from include.worker.assignment import Assignment, Work
from include.worker.memory import is_out_of_memory
from include.worker.ports import SafetyMode, UnwantedError
from include.worker.render import Item
from include.worker.tools import Tools

log = logging.getLogger(__name__)

MADE_HERE = {"prompt", "parked"}  #: caches that save a part of the work: the image is still ours


def store_image(assignment: Assignment, item: Item, image: Image, tools: Tools) -> None:
    """Check the image, store it, and complete its request with the last one. What goes wrong fails the request; one that is cancelled
    while the store is away ends at once, and its mates go on.

    Raises :class:`AbandonedError` where the store is away and the worker must not wait for it.
    """
    work = assignment.work[item.task.request_id]
    assignment.lose_if_expired()
    if work not in assignment.open:
        return
    try:
        flags = _flags(image, tools)
        if flags and tools.ports.safety.mode is SafetyMode.BLOCK:
            words = f"image {item.index} shows {', '.join(flags)}, which this installation does not serve"
            assignment.fail(work, ReasonCode.UNSAFE_CONTENT, words, retryable=False)
            return
        result, there_before = tools.results.put(item, image, assignment.lease.model, flags, partial(assignment.wants, work))
    except UnwantedError:
        assignment.lose_if_expired()
    except StoreUnavailable as error:
        assignment.check()
        assignment.fail_open(ReasonCode.STORE_FAILED, str(error), retryable=True)
    except StoreError as error:
        assignment.fail(work, ReasonCode.STORE_FAILED, str(error), retryable=False)
    except Exception as error:  # a checker that fails must not let the image pass, nor an encoder the worker end
        fail_item(assignment, item, error)
    else:
        work.take(result, "attempt" if there_before else "")
        complete_if_whole(assignment, work, tools)


def complete_if_whole(assignment: Assignment, work: Work, tools: Tools) -> None:
    """Complete the request once all of its images are there."""
    if work.closed or len(work.images) < work.task.images:
        return
    assignment.complete(work)
    if assignment.lease.attempt > 1:
        tools.parked.discard(work.task)
    if assignment.pipeline is not None and work.hits.keys() <= MADE_HERE:
        for image in work.images:
            tools.ports.results.remember(work.task, image, assignment.lease.model, assignment.pipeline)


def fail_item(assignment: Assignment, item: Item, error: Exception) -> None:
    """Fail the request of an image that can't be rendered even alone."""
    work = assignment.work[item.task.request_id]
    if is_out_of_memory(error):
        message = f"{item.task.width}x{item.task.height} does not fit the device's memory even alone: {error}"
        assignment.fail(work, ReasonCode.OUT_OF_MEMORY, message, retryable=True)
    elif isinstance(error, ValueError):
        assignment.fail(work, ReasonCode.UNSUPPORTED_SHAPE, str(error), retryable=False)
    else:
        log.error("lease %s: request %s failed", item.lease_id, item.task.request_id, exc_info=error)
        assignment.fail(work, ReasonCode.RENDER_FAILED, f"{type(error).__name__}: {error}", retryable=True)


def _flags(image: Image, tools: Tools) -> tuple[str, ...]:
    safety = tools.ports.safety
    return () if safety.mode is SafetyMode.OFF else safety.check([image])[0]
