"""What both versions of a canary did, counted from the events, the ratings and the workers' credit since it began."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from include.client.reader import RecentIds, Record, TopicReader, parse_event
from include.config import Settings
from include.contracts import topics
from include.contracts.events import State, StatusEvent
from include.contracts.feedback import Rating
from include.contracts.workers import Credit
from include.lifecycle.canary import Arm, Figures

MAX_RATABLE = 100_000  #: finished requests whose ratings are still heard; of more, the newest
#: Other events and heartbeats are not even parsed.
_ENDS = (b"Completed", b"Failed")
BATCH = 1000


class Tally:
    """Figures of one canary, message by message; a repeated message changes nothing."""

    def __init__(self, model: str, champion: str, challenger: str) -> None:
        self.model = model
        self.champion, self.challenger = Arm(version=champion), Arm(version=challenger)
        self._arms = {arm.version: arm for arm in (self.champion, self.challenger)}
        self._seen = RecentIds()
        self._finished: OrderedDict[str, tuple[str, str]] = OrderedDict()  # request id → its tenant, its version
        self._ratings: dict[tuple[str, str], tuple[str, int]] = {}  # request id and person → version, rating
        self._refusals: set[str] = set()

    def take_event(self, event: StatusEvent) -> None:
        """A request counts for the version of its last attempt; what nobody rendered says nothing of either."""
        arm = self._arms.get(event.model_version or "")
        if event.model != self.model or arm is None or not self._seen.add(event.event_id):
            return
        if event.state is State.FAILED:
            arm.failed += 1
        elif event.state is State.COMPLETED:
            arm.completed += 1
            if event.usage is not None and event.images and not event.usage.cache_hits and not event.trace.get("cached"):
                arm.seconds.append(event.usage.gpu_seconds / len(event.images))
            self._remember(event, arm.version)

    def take_rating(self, rating: Rating) -> None:
        """Of a tenant's own request; the last one of each person counts."""
        tenant, version = self._finished.get(rating.request_id, ("", ""))
        if rating.tenant == tenant:
            self._ratings[rating.request_id, rating.by_whom] = version, rating.rating

    def take_credit(self, credit: Credit) -> None:
        if f"{self.model}/{self.challenger.version}" in credit.refused_models:
            self._refusals.add(credit.worker_id)

    def figures(self, elapsed_s: float) -> Figures:
        for version, arm in self._arms.items():
            arm.ratings = [rating for of, rating in self._ratings.values() if of == version]
        return Figures(champion=self.champion, challenger=self.challenger, elapsed_s=elapsed_s, refusals=tuple(sorted(self._refusals)))

    def _remember(self, event: StatusEvent, version: str) -> None:
        self._finished[event.request_id] = event.tenant, version
        if len(self._finished) > MAX_RATABLE:
            self._finished.popitem(last=False)


class TallyReader:
    """Feeds a tally from the topics, from ``since`` on (seconds since 1970). Raises :class:`BrokerUnavailableError` where there is none
    at the start; after that it waits for the broker."""

    def __init__(self, settings: Settings, tally: Tally, since: float) -> None:
        self.tally = tally
        self._events = TopicReader(settings, topics.EVENTS, since=since)
        self._workers = TopicReader(settings, topics.WORKERS, since=since)
        self._ratings = TopicReader(settings, topics.RATINGS, since=since)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for reader in (self._events, self._workers, self._ratings):
            reader.close()

    def read(self, timeout_s: float) -> None:
        """All that is there; waits at most so long for the first event."""
        for record in _all(self._events, timeout_s):
            self._take_event(record)
        for record in _all(self._workers):
            self._take_credit(record.value or b"")
        for record in _all(self._ratings):
            self._take_rating(record.value or b"")

    def _take_event(self, record: Record) -> None:
        if any(end in (record.value or b"") for end in _ENDS) and (event := parse_event(record)) is not None:
            self.tally.take_event(event)

    def _take_credit(self, value: bytes) -> None:
        # The one key of a heartbeat without refusals is left out or empty.
        if f'"{self.tally.model}/{self.tally.challenger.version}"'.encode() not in value or b"refused_models" not in value:
            return
        try:
            self.tally.take_credit(Credit.from_json(value))
        except ValidationError:
            return  # another kind of message

    def _take_rating(self, value: bytes) -> None:
        try:
            self.tally.take_rating(Rating.from_json(value))
        except ValidationError:
            return  # products write these; the archive reports what is wrong with them


def _all(reader: TopicReader, timeout_s: float = 0.05) -> Iterator[Record]:
    """What is there now; more may be there by the time it was read."""
    more = True
    while more:
        records = reader.poll_batch(BATCH, timeout_s)
        yield from records
        more = len(records) == BATCH
