"""A running micro-batch as a procedure that its owner resumes step by step; other leases of its batch key may join it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from PIL.Image import Image

from include.contracts.dispatch import Lease
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane
from include.worker.admission import admit, proven_size
from include.worker.assignment import AbandonedError, Assignment, Work
from include.worker.memory import free_memory, is_out_of_memory
from include.worker.render import Item, Render
from include.worker.storing import fail_item, store_image
from include.worker.tools import Tools
from models.pipelines.interruption import InterruptedStepError

log = logging.getLogger(__name__)

URGENCY = {lane: rank for rank, lane in enumerate(Lane)}  #: 0 is the most urgent


@dataclass(frozen=True)
class Spent:
    item_steps: int  #: denoising steps run, each item counted
    device_s: float


class Execution:
    """One or more leases that render together. Iterate :meth:`run` to the end: it pauses at every step boundary.

    What goes wrong becomes a ``Failed`` of the requests that it concerns. A batch that raises is taken apart until the item at fault is
    alone; each part goes on from where the batch was.
    """

    def __init__(self, first: Assignment, tools: Tools) -> None:
        self.first = first
        self.tools = tools
        self.assignments = {first.lease.lease_id: first}
        self.current: Render | None = None
        self.pending: deque[Render] = deque()

    def run(self) -> Iterator[None]:
        """Raises :class:`AbandonedError` where the worker ends first; what was begun is in the store then."""
        try:
            self.pending.extend(admit(self.first, self.tools))
            self._finish_settled()
            while self.pending:
                self.current = self.pending.popleft()
                yield from self._render(self.current)
                self.current = None
        except AbandonedError:
            self._keep_for_others()
            raise

    @property
    def lease(self) -> Lease:
        """The one that it began with."""
        return self.first.lease

    @property
    def running(self) -> list[Assignment]:
        """Its leases of which something is left to do."""
        return [assignment for assignment in self.assignments.values() if not assignment.finished]

    @property
    def urgency(self) -> int:
        return min((URGENCY[assignment.lease.lane] for assignment in self.running), default=len(URGENCY))

    @property
    def item_steps(self) -> int:
        """Denoising steps that are left, each item counted."""
        return sum(render.left for render in self._renders())

    def spent(self) -> Spent:
        items = [item for assignment in self.assignments.values() for work in assignment.work.values() for item in work.items]
        return Spent(sum(item.ran for item in items), sum(item.device_s for item in items))

    @property
    def void(self) -> bool:
        """Whether nobody wants any of it any more."""
        return not any(assignment.open for assignment in self.running)

    def accepts(self, lease: Lease) -> bool:
        """Whether the lease may join at this step boundary. Never one that is less urgent than what it would slow down."""
        render, pipeline, ours = self.current, self.first.pipeline, self.lease
        if render is None or pipeline is None or not pipeline.joins or render.alone or URGENCY[lease.lane] > self.urgency:
            return False
        alike = lease.batch_key == ours.batch_key and lease.model.digest == ours.model.digest
        if not alike or lease.tasks[0].adapters != ours.tasks[0].adapters:
            return False
        size = sum(len(one.items) for one in self._renders()) + sum(task.images for task in lease.tasks)
        # A check for a join holds up what runs, so it must end with either of them.
        return self._fits(render, size, lambda: self._wanted() and lease.lease_id in self.first.leases.held())

    def join(self, assignment: Assignment) -> None:
        """Take the lease in; its items join before the next step."""
        self.assignments[assignment.lease.lease_id] = assignment
        log.info("lease %s joins the running lease %s", assignment.lease.lease_id, self.lease.lease_id)
        self.pending.extend(admit(assignment, self.tools))
        if self.current is not None:
            self._fill(self.current)

    def fail_open(self, message: str) -> None:
        """Something that should not happen did: no request stays without an answer."""
        for assignment in self.running:
            assignment.fail_open(ReasonCode.RENDER_FAILED, message, retryable=True)
        self._finish_settled()

    def _render(self, render: Render) -> Iterator[None]:
        while self._keeps(render):
            try:
                images = self._advance(render)
            except AbandonedError:
                raise
            except Exception as error:  # whatever the pipeline raises fails the render, never the worker
                self._take_apart(render, error)
                return
            for item, image in images:
                store_image(self.assignments[item.lease_id], item, image, self.tools)
            self._finish_settled()
            if render.items:
                self._fill(render)
            if render.items or self.pending:
                yield

    def _advance(self, render: Render) -> list[tuple[Item, Image]]:
        """The next step, and the images that it finished. What is lost or cancelled meanwhile has neither preview nor decoding."""
        if render.state is None:
            render.begin()
            if not self._keeps(render):
                return []
        if not render.finished:
            with suppress(InterruptedStepError):
                render.advance(self._wanted)
            if not self._keeps(render):
                return []
            self._report(render)
        return render.take_images()

    def _keeps(self, render: Render) -> bool:
        """Leave what is lost, cancelled or answered; whether anything is left to render."""
        for assignment in self.running:
            assignment.check()
        wanted = {(assignment.lease.lease_id, work.task.request_id) for assignment in self.running for work in assignment.open}
        render.drop(lambda item: (item.lease_id, item.task.request_id) not in wanted)
        self._finish_settled()
        return bool(render.items)

    def _fill(self, render: Render) -> None:
        """Let pending items of the same key join, where the pipeline can do that and there is room."""
        while self.pending and not render.alone and render.pipeline.joins:
            coming = self.pending[0]
            if coming.alone or not self._fits(render, len(render.items) + len(coming.items), self._wanted):
                return
            self.pending.popleft()
            try:
                render.join(coming)
            except Exception as error:
                self._take_apart(coming, error)

    def _fits(self, render: Render, size: int, wanted: Callable[[], bool]) -> bool:
        gate, lease = self.tools.ports.parity, self.lease
        return size <= self.tools.max_items and size == proven_size(gate, render.pipeline, lease.model, lease.batch_key, size, wanted)

    def _wanted(self) -> bool:
        return any(assignment.wanted for assignment in self.running)

    def _take_apart(self, render: Render, error: Exception) -> None:
        out_of_memory = is_out_of_memory(error)
        if out_of_memory:
            free_memory(self.tools.device)
        if len(render.items) == 1:
            fail_item(self.assignments[render.items[0].lease_id], render.items[0], error)
            self._finish_settled()
            return
        log.warning("lease %s: a batch of %d failed and is taken apart: %s", self.lease.lease_id, len(render.items), error)
        size = (len(render.items) + 1) // 2 if out_of_memory else 1
        positions = range(len(render.items))
        parts = [render.part(positions[start : start + size], alone=True) for start in range(0, len(positions), size)]
        self.pending.extendleft(reversed(parts))

    def _report(self, render: Render) -> None:
        """Say how far each lease is, and show how its requests look to become."""
        done: dict[str, int] = {}
        for item, step in zip(render.items, render.progress, strict=True):
            done[item.lease_id] = min(step, done.get(item.lease_id, step))
        for assignment in self.running:
            reached = done.get(assignment.lease.lease_id)
            if reached is not None and assignment.is_due(reached, render.steps):
                self._preview(render, assignment)
                written = self.tools.previews.take_written(assignment.lease.lease_id) if self.tools.previews else ()
                assignment.report(reached, render.steps, written)

    def _preview(self, render: Render, assignment: Assignment) -> None:
        """Of the first image of each request."""
        writer = self.tools.previews
        if writer is None or writer.busy:
            return
        firsts: dict[str, int] = {}
        for position, item in enumerate(render.items):
            if item.lease_id == assignment.lease.lease_id:
                firsts.setdefault(item.task.request_id, position)
        tasks = [render.items[position].task for position in firsts.values()]
        try:
            writer.offer(assignment.lease.lease_id, tasks, render.previews(list(firsts.values())))
        except Exception as error:  # the picture of a render must not cost the render
            log.warning("lease %s: no preview: %s", assignment.lease.lease_id, error)

    def _finish_settled(self) -> None:
        """Free the slots of leases of which nothing is left to do."""
        for assignment in self.running:
            if not assignment.open:
                if self.tools.previews is not None:
                    self.tools.previews.discard(assignment.lease)
                assignment.finish()

    def _keep_for_others(self) -> None:
        """Put what was begun into the store, one render a request."""
        for assignment in self.running:
            for work in assignment.open:
                self._keep(assignment, work)

    def _keep(self, assignment: Assignment, work: Work) -> None:
        parts = []
        for render in self._renders():
            mine = [position for position, item in enumerate(render.items) if item in work.items]
            if mine and render.state is not None:
                parts.append(render.part(mine))
        if not parts:
            return
        whole, *others = parts
        for other in others if whole.pipeline.joins else ():
            whole.join(other)
        if whole.state is not None:
            indices = [item.index for item in whole.items]
            self.tools.parked.save(work.task, indices, whole.state, assignment.lease.model, whole.pipeline.backend)

    def _renders(self) -> list[Render]:
        return [*([self.current] if self.current is not None else []), *self.pending]
