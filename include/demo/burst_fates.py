"""What became of each request of the burst, so far or in the end; table, figures, chart and verdict are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from include.contracts.errors import Reason
from include.contracts.events import Admission, Lane, State, StatusEvent
from include.contracts.requests import ServiceClass
from include.demo.burst_plan import BurstRequest
from include.demo.observer import Seen

#: A batch request that the scheduler took later than this was held back before it.
HELD_BACK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Fate:
    request: BurstRequest
    sent_at: float  #: seconds since 1970
    events: tuple[StatusEvent, ...] = ()
    steps: int  #: that it asked for

    @cached_property
    def newest(self) -> StatusEvent | None:
        """The terminal event where there is one, else the last."""
        ended = (event for event in self.events if event.state.terminal)
        return next(ended, self.events[-1] if self.events else None)

    @property
    def state(self) -> State | None:
        return self.newest.state if self.newest else None

    @property
    def over(self) -> bool:
        return self.state is not None and self.state.terminal

    @property
    def lane(self) -> Lane | None:
        """None of a refused one: it never came into a lane."""
        return self.newest.lane if self.newest else None

    @cached_property
    def _queued(self) -> StatusEvent | None:
        return next((event for event in self.events if event.state is State.QUEUED), None)

    @property
    def admitted(self) -> bool:
        return self._queued is not None

    @property
    def held_back_s(self) -> float | None:
        """From its sending to its place in a lane; None while it has none."""
        return max(0.0, self._queued.at - self.sent_at) if self._queued else None

    @property
    def deferred(self) -> bool:
        """A batch request that waited before the scheduler until its lane had room."""
        if self._queued is None or self.request.planned.service_class is not ServiceClass.BATCH:
            return False
        return self._queued.trace.get("outcome") == Admission.DEFERRED or (self.held_back_s or 0.0) > HELD_BACK_S

    @cached_property
    def wait_s(self) -> float | None:
        """From its sending to the dispatch that counts; None while there was none."""
        dispatches = [event.at for event in self.events if event.state is State.PROCESSING and event.progress is None]
        return max(0.0, dispatches[-1] - self.sent_at) if dispatches else None

    @property
    def took_s(self) -> float | None:
        """From its sending to its image."""
        return self.newest.at - self.sent_at if self.newest and self.state is State.COMPLETED else None

    @property
    def degraded(self) -> tuple[str, ...]:
        return self.newest.degraded if self.newest else ()

    @property
    def steps_share(self) -> float | None:
        """Steps that ran by steps asked for."""
        usage = self.newest.usage if self.newest else None
        return usage.steps / self.steps if usage and usage.steps else None

    @property
    def refusal(self) -> Reason | None:
        return self.newest.reason if self.newest and self.state is State.REFUSED else None

    @property
    def retried(self) -> bool:
        return any(event.state is State.RETRYING for event in self.events)


def fates_of(plan: Iterable[BurstRequest], sent_at: Mapping[str, float], seen: Seen, default_steps: int) -> list[Fate]:
    """Of those that were sent, in the order of the plan."""
    return [
        Fate(
            request=request,
            sent_at=sent_at[request.id],
            events=tuple(seen.events.get(request.id, ())),
            steps=request.planned.fields.get("steps", default_steps),
        )
        for request in plan
        if request.id in sent_at
    ]


def held_back(fates: Iterable[Fate]) -> int:
    """Batch requests that were sent and of which the scheduler said nothing yet."""
    return sum(fate.request.planned.service_class is ServiceClass.BATCH and not fate.events for fate in fates)
