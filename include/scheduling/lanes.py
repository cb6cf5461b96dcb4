"""The three lanes: strict priority with a guaranteed floor for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from include.contracts.events import Lane
from include.scheduling.fair_queue import FairQueue, Fits
from include.scheduling.records import Entry, Pools, Shape


@dataclass(slots=True, eq=False)
class _State:
    lane: Lane
    queue: FairQueue
    floor: float
    owed: float = 0.0


class Lanes:
    """Strict priority, but a backlogged lane that is owed its floor goes first.

    While a lane waits, each dispatch of ``c`` device seconds anywhere owes it ``floor * c``; once that covers its head it is served,
    and what it was served is taken off. Over any period in which it stays backlogged a lane therefore gets at least its floor's
    share of the dispatched device seconds, less one request. Floors must sum to less than 1.
    """

    def __init__(self, floors: Mapping[Lane, float]) -> None:
        self._paused: set[str] = set()
        self._states = [_State(lane, FairQueue(self._paused), 0.0) for lane in Lane]
        self._by_lane = {state.lane: state.queue for state in self._states}
        self.queues = tuple(self._by_lane.items())
        self.set_floors(floors)

    def __getitem__(self, lane: Lane) -> FairQueue:
        return self._by_lane[lane]

    def __len__(self) -> int:
        return sum(len(state.queue) for state in self._states)

    @property
    def floors(self) -> dict[Lane, float]:
        return {state.lane: state.floor for state in self._states}

    def set_floors(self, floors: Mapping[Lane, float]) -> None:
        """Raises :class:`ValueError` for floors that can't be kept."""
        if sum(floors.values()) >= 1 or min(floors.values()) < 0:
            raise ValueError("floors must be at least 0 and sum to less than 1")
        for state in self._states:
            state.floor = floors[state.lane]

    def next(self, rooms: Pools | None = None) -> Entry | None:
        """The request that goes next among those that may go to one of ``rooms``, None when there is none."""
        first = due = None
        for state in self._states:
            if not state.queue or (first is not None and state.owed <= 0):
                continue
            head = state.queue.head(rooms)
            if head is None:
                continue
            if first is None:
                first = head
            if 0 < state.owed >= head.predicted_s:
                due = head
        return due or first

    def serve(self, entry: Entry, *, in_turn: bool) -> None:
        """Take a request out as dispatched, and settle who is owed what; ``in_turn`` unless it fills another's micro-batch."""
        seconds = entry.predicted_s
        for state in self._states:
            owed = state.owed + state.floor * seconds
            if state.lane is entry.lane:
                state.queue.serve(entry, in_turn=in_turn)
                owed -= seconds
            state.owed = owed if owed > 0 and state.queue else 0.0

    def alike(
        self, shape: Shape, first: Lane, pool: str | None = None, most_s: float = inf, ahead_s: float = inf, fits: Fits | None = None
    ) -> Entry | None:
        """A request to fill a micro-batch with: of the head's own lane, else of the others in priority order."""
        own = self[first].alike(shape, pool, most_s, ahead_s, fits)
        if own is not None:
            return own
        others = (
            state.queue.alike(shape, pool, most_s, ahead_s, fits) for state in self._states if state.queue and state.lane is not first
        )
        return next((found for found in others if found is not None), None)

    def pause(self, tenant: str) -> None:
        """Nothing of a tenant is dispatched until :meth:`resume`."""
        if tenant not in self._paused:
            self._paused.add(tenant)
            for state in self._states:
                state.queue.pause(tenant)

    def resume(self, tenant: str) -> None:
        if tenant in self._paused:
            self._paused.discard(tenant)
            for state in self._states:
                state.queue.resume(tenant)

    def account(self) -> str:
        """What a restored scheduler needs beside the tenants' tags to go on alike: :meth:`restore_account` reads it."""
        return "\t".join(f"{state.queue.virtual_time!r} {state.owed!r}" for state in self._states)

    def restore_account(self, text: str) -> None:
        for state, row in zip(self._states, text.split("\t"), strict=True):
            state.queue.virtual_time, state.owed = map(float, row.split(" "))
