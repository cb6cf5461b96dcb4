"""What a lease needs rendered: neither what is stored or cached already, nor the steps that another worker did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from include.contracts.dispatch import BatchKey, ModelRef
from include.contracts.errors import ReasonCode
from include.storage import StoreUnavailable
from include.worker.assignment import Assignment, Work
from include.worker.beginning import LeaseBeginner
from include.worker.cache import ModelLoadError
from include.worker.pipeline import Pipeline
from include.worker.ports import ParityGate, UnwantedError
from include.worker.render import Item, Render
from include.worker.start_images import StartImageError
from include.worker.storing import complete_if_whole
from include.worker.tools import Tools


def admit(assignment: Assignment, tools: Tools) -> list[Render]:
    """Answer what needs no render; returns the renders of the rest, none of them begun here, some of them elsewhere.

    A model that does not load and a store that stays away fail the lease's requests. Raises :class:`AbandonedError`.
    """
    assignment.check()
    assignment.reporter.started(assignment.lease.lease_id)
    try:
        if assignment.lease.attempt > 1:
            _take_stored(assignment, tools)
        _fail_strangers(assignment)
        if not assignment.open:
            return []
        pipeline = tools.adapters.put_on(tools.cache.get(assignment.lease.model), assignment.lease.tasks[0].adapters)
        assignment.pipeline = pipeline
        return _renders(assignment, tools, pipeline)
    except ModelLoadError as error:
        assignment.fail_open(ReasonCode.MODEL_LOAD_FAILED, str(error), retryable=error.retryable)
    except StoreUnavailable as error:
        assignment.check()  # a lease that was lost while waiting says nothing more
        assignment.fail_open(ReasonCode.STORE_FAILED, str(error), retryable=True)
    return []


def proven_size(gate: ParityGate, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool]) -> int:
    """How many images may render together, 1 to ``size``, as far as the gate knows or can find out while that is ``wanted``."""
    if size <= 1:
        return 1
    allowed = gate.allows(pipeline, model, key, size)
    if allowed is None:
        allowed = gate.check(pipeline, model, key, size, wanted)
    return max(1, min(allowed, size))


def _fail_strangers(assignment: Assignment) -> None:
    """Requests that don't share what a micro-batch shares: each would be rendered as the first one is, and be told to be another."""
    key = assignment.lease.batch_key
    for work in assignment.open:
        odd = [name for name in ("width", "height", "steps", "guided", "variant") if getattr(work.task, name) != getattr(key, name)]
        if odd:
            words = f"{', '.join(odd)}: not as in the lease's batch key {key}; lease it with requests of its own shape"
            assignment.fail(work, ReasonCode.INVALID_FIELD, words, retryable=True)


def _take_stored(assignment: Assignment, tools: Tools) -> None:
    """An earlier attempt may have stored images and died before it could say so."""
    for work in assignment.open:
        with suppress(UnwantedError):
            for image in tools.results.existing(work.task, partial(assignment.wants, work)):
                work.take(image, "attempt")
            complete_if_whole(assignment, work, tools)


def _renders(assignment: Assignment, tools: Tools, pipeline: Pipeline) -> list[Render]:
    beginner = LeaseBeginner(assignment, tools.ports.prompts)
    renders: list[Render] = []
    fresh: list[Item] = []
    for work in assignment.open:
        with suppress(UnwantedError):
            _take_cached(assignment, work, tools, pipeline)
            if work.closed or not _load_start(assignment, work, tools, beginner):
                continue
            resumed = _resumed(assignment, work, tools, beginner)
            renders += resumed
            begun = {item for render in resumed for item in render.items}
            fresh += [item for item in work.missing if item not in begun]
    size = _batch_size(assignment, tools, pipeline, len(fresh))
    chunks = [fresh[start : start + size] for start in range(0, len(fresh), size)]
    return renders + [Render(pipeline, chunk, beginner, device=tools.device) for chunk in chunks]


def _batch_size(assignment: Assignment, tools: Tools, pipeline: Pipeline, items: int) -> int:
    wanted = min(tools.max_items, max(1, items))
    lease = assignment.lease
    size = proven_size(tools.ports.parity, pipeline, lease.model, lease.batch_key, wanted, lambda: assignment.wanted)
    if size < wanted and assignment.wanted:
        assignment.note(f"rendered {size} at a time: larger batches of this shape differ from single renders on {pipeline.backend}")
    return size


def _take_cached(assignment: Assignment, work: Work, tools: Tools, pipeline: Pipeline) -> None:
    for item in work.missing:
        find = partial(tools.ports.results.find, work.task, item.index, assignment.lease.model, pipeline)
        found = tools.results.answered(find, partial(assignment.wants, work))
        if found is not None:
            work.take(found.image, found.cache)
            work.degraded = tuple(dict.fromkeys([*work.degraded, *found.degraded]))
    complete_if_whole(assignment, work, tools)


def _load_start(assignment: Assignment, work: Work, tools: Tools, beginner: LeaseBeginner) -> bool:
    """Whether the request can begin; one whose image to start from is bad fails."""
    try:
        tools.results.patiently(partial(beginner.load_start, tools.results.store, work.task), partial(assignment.wants, work))
    except StartImageError as error:
        assignment.fail(work, ReasonCode.INVALID_FIELD, str(error), retryable=False)
        return False
    return True


def _resumed(assignment: Assignment, work: Work, tools: Tools, beginner: LeaseBeginner) -> list[Render]:
    """The request's render as an earlier attempt left it, if it did."""
    pipeline = assignment.pipeline
    if assignment.lease.attempt == 1 or pipeline is None:
        return []
    find = partial(tools.parked.find, work.task, assignment.lease.model, pipeline)
    found = tools.results.answered(find, partial(assignment.wants, work))
    missing = {item.index: item for item in work.missing}
    kept = [] if found is None else [position for position, index in enumerate(found.indices) if index in missing]
    if found is None or not kept:
        return []
    work.hits["parked"] = None
    work.notes[f"resumed from step {min(found.state.progress)}"] = None
    items = [missing[found.indices[position]] for position in kept]
    return [Render(pipeline, items, beginner, state=found.state.select(kept), device=tools.device)]
