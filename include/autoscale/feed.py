"""Reads the topics that tell of demand, and nothing else: whoever sizes pools needs no word with the router."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from include.autoscale.demand import DemandTracker
from include.client.errors import BrokerUnavailableError
from include.client.reader import Record, Start, TopicReader, parse_event
from include.config import Settings
from include.contracts import topics
from include.contracts.control import Policy, control_messages
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.contracts.workers import worker_messages

log = logging.getLogger(__name__)

ANSWER_S = 5.0
QUIET_S = 1.0  #: nothing more comes after so long without a message, though the end was not reached: a marker lies there
BATCH = 1000
HEARTBEATS_S = 20.0  #: how much of the workers' topic is read at the start


class _Offsets:
    """What a consumer group's member would know, without joining the group."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        options = {"bootstrap.servers": settings.bootstrap, "group.id": settings.router_group, "enable.auto.commit": False, "log_level": 2}
        self._consumer = Consumer(options)

    def since(self, topic: str, at: float) -> dict[int, int]:
        """The first offset of each partition at or after a time; partitions with nothing so new are left out."""
        wanted = [TopicPartition(self._prefix + topic, number, int(at * 1000)) for number in self._partitions(topic)]
        found = self._consumer.offsets_for_times(wanted, timeout=ANSWER_S)
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def behind(self, topic: str) -> int:
        """Messages that the router has not read, by the offsets of its last checkpoint. 0 before its first."""
        asked = [TopicPartition(self._prefix + topic, number) for number in self._partitions(topic)]
        committed = {one.partition: one.offset for one in self._consumer.committed(asked, timeout=ANSWER_S) if one.offset >= 0}
        ends = {one.partition: self._consumer.get_watermark_offsets(one, timeout=ANSWER_S)[1] for one in asked}
        return sum(max(0, ends[number] - offset) for number, offset in committed.items())

    def close(self) -> None:
        self._consumer.close()

    def _partitions(self, topic: str) -> list[int]:
        return list(self._consumer.list_topics(self._prefix + topic, timeout=ANSWER_S).topics[self._prefix + topic].partitions)


class _Tail:
    """One topic from some time on."""

    def __init__(self, settings: Settings, topic: str, start: Start, offsets: Mapping[int, int], take: Callable[[Record], None]) -> None:
        self._reader = TopicReader(settings, topic, start, lambda cluster_id: offsets)
        self._next: dict[int, int] = {}
        self._take = take

    def catch_up(self) -> None:
        """Take everything up to the end as it is now. Raises :class:`BrokerUnavailableError`."""
        ends, heard_at = self._reader.ends(), time.monotonic()
        behind = {number for number, end in ends.items() if self._next.get(number, -1) < end}
        while behind and time.monotonic() - heard_at < QUIET_S:
            for record in self._reader.poll_batch(BATCH, 0.1):
                heard_at = time.monotonic()
                self._next[record.partition] = record.offset + 1
                self._take(record)
            behind = {number for number in behind if self._next.get(number, -1) < ends[number]}
        # What was not there by now is no message; to wait for it each time would cost a second a decision.
        self._next.update({number: max(self._next.get(number, 0), ends[number]) for number in behind})

    def close(self) -> None:
        self._reader.close()


class Feed:
    """The tracker's eyes. It is built anew after the broker was away, so that what happened meanwhile is read too.

    :param history_s: how far back the events are read at the start
    """

    def __init__(self, settings: Settings, history_s: float, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._history_s = history_s
        self._clock = clock
        self._policy = default_policy(lease_s=settings.lease_s, max_attempts=settings.max_attempts)
        self._tails: list[_Tail] = []
        self._offsets: _Offsets | None = None
        self.tracker = DemandTracker(clock())

    @property
    def objectives(self) -> Mapping[Lane, float]:
        """As the policy in force sets them."""
        return self._policy.lane_objective_s

    def catch_up(self) -> None:
        """Take what was said since the last time. Raises :class:`BrokerUnavailableError`; the next call starts over."""
        try:
            offsets = self._offsets or self._open()
            for tail in self._tails:
                tail.catch_up()
            self.tracker.batch_behind = offsets.behind(topics.BATCH)
        except KafkaException as error:
            self.close()
            raise BrokerUnavailableError(f"no answer from {self._settings.bootstrap}: {error.args[0].str()}") from error
        except BrokerUnavailableError:
            self.close()
            raise

    def close(self) -> None:
        for tail in self._tails:
            tail.close()
        if self._offsets is not None:
            self._offsets.close()
        self._tails, self._offsets = [], None

    def _open(self) -> _Offsets:
        self._offsets = offsets = _Offsets(self._settings)
        now = self._clock()
        self.tracker = DemandTracker(now)
        heartbeats, events = offsets.since(topics.WORKERS, now - HEARTBEATS_S), offsets.since(topics.EVENTS, now - self._history_s)
        for topic, start, first, take in (
            (topics.CONTROL, Start.BEGINNING, {}, self._take_control),
            (topics.WORKERS, Start.END, heartbeats, self._take_worker),
            (topics.EVENTS, Start.END, events, self._take_event),
        ):
            self._tails.append(_Tail(self._settings, topic, start, first, take))
        return offsets

    def _take_event(self, record: Record) -> None:
        event = parse_event(record)
        if event is not None:
            self.tracker.take_event(event)

    def _take_worker(self, record: Record) -> None:
        try:
            message = worker_messages.validate_json(record.value or b"")
        except ValidationError as error:
            log.debug("workers[%d]@%d is no worker's message: %s", record.partition, record.offset, error.errors()[0]["msg"])
            return
        if message.cell == self._settings.cell:
            self.tracker.take_worker(message)

    def _take_control(self, record: Record) -> None:
        try:
            message = control_messages.validate_json(record.value or b"")
        except ValidationError:
            return  # a tombstone, or another release's; the router tells of it
        if isinstance(message, Policy):
            self._policy = message
