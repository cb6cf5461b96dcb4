"""The three lanes: strict priority with a guaranteed floor for each."""

from __future__ import annotations

from include.contracts.events import Lane
from include.scheduling.fair_queue import FairQueue
from include.scheduling.records import Entry, Shape


class Lanes:
    """Strict priority, but a backlogged lane that is owed its floor goes first.

    While a lane waits, each dispatch of ``c`` device seconds anywhere owes it ``floor * c``; once that covers its head it is served,
    and what it was served is taken off. Over any period in which it stays backlogged a lane therefore gets at least its floor's
    share of the dispatched device seconds, less one request. Floors must sum to less than 1.
    """

    def __init__(self, floors: dict[Lane, float]) -> None:
        if sum(floors.values()) >= 1 or min(floors.values()) < 0:
            raise ValueError("floors must be at least 0 and sum to less than 1")
        self._floors = floors
        self._queues = {lane: FairQueue() for lane in Lane}
        self._owed = dict.fromkeys(Lane, 0.0)

    def __getitem__(self, lane: Lane) -> FairQueue:
        return self._queues[lane]

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def next(self) -> Lane | None:
        """The lane whose head goes next, None when all are empty."""
        backlogged = [lane for lane in Lane if len(self._queues[lane])]
        if len(backlogged) < 2:
            return backlogged[0] if backlogged else None
        due = [lane for lane in backlogged if self._owed[lane] > 0 and self._owed[lane] >= self._queues[lane].head().predicted_s]
        return due[-1] if due else backlogged[0]

    def serve(self, entry: Entry, *, in_turn: bool) -> None:
        """Take a request out as dispatched, and settle who is owed what; ``in_turn`` unless it fills another's micro-batch."""
        self._queues[entry.lane].serve(entry, in_turn=in_turn)
        for lane, queue in self._queues.items():
            owed = self._owed[lane] + self._floors[lane] * entry.predicted_s - (entry.predicted_s if lane is entry.lane else 0.0)
            self._owed[lane] = max(0.0, owed) if len(queue) else 0.0

    def alike(self, shape: Shape, first: Lane) -> Entry | None:
        """A request to fill a micro-batch with: of the head's own lane, else of the others in priority order."""
        own = self._queues[first].alike(shape)
        if own is not None:
            return own
        return next((found for lane in Lane if (found := self._queues[lane].alike(shape)) is not None), None)
