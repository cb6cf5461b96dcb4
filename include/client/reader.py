"""Reading a topic from Kafka without a consumer group: everyone who watches sees everything."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from include.client.errors import BrokerUnavailableError
from include.config import Settings
from include.contracts import topics
from include.contracts.events import ScaleEvent, SharesEvent, StatusEvent

log = logging.getLogger(__name__)

REMEMBERED_IDS = 100_000
NEW_TOPIC_S = 3.0  #: how long a broker may take to tell of a topic that was just created


class Start(StrEnum):
    BEGINNING = "beginning"  #: the oldest message that is still there
    END = "end"  #: what arrives after the reader was made


@dataclass(frozen=True, kw_only=True)
class Record:
    """One message as it lies on the topic."""

    value: bytes | None
    partition: int
    offset: int
    at: float | None = None  #: when it was put there, in seconds since 1970, where the reader says so


OffsetsOf = Callable[[str], Mapping[int, int]]


def no_offsets(cluster_id: str) -> Mapping[int, int]:
    return {}


class TopicReader:
    """Reads every partition of one topic.

    :param topic: without the installation's prefix
    :param offsets: called with the cluster's id, gives the next offset to read by partition where one is known; other partitions start
        at ``start``
    :param since: seconds since 1970; partitions without a known offset start at the first message that is not older, not at ``start``

    Raises :class:`BrokerUnavailableError` where the broker does not answer or does not have the topic. Once made, it outlives the
    broker: :meth:`poll` returns None while there is none and goes on where it was when it is back.
    """

    def __init__(
        self, settings: Settings, topic: str, start: Start = Start.END, offsets: OffsetsOf = no_offsets, *, since: float | None = None
    ) -> None:
        self.topic = settings.topic_prefix + topic
        self._since = since
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": "atelier-readers",  # required by the library; nothing is committed under it
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            }
        )
        try:
            self.cluster_id = self._assign(start, offsets)
        except KafkaException as error:
            self._consumer.close()
            raise BrokerUnavailableError(f"{self.topic} can't be read from {settings.bootstrap}: {error.args[0].str()}") from error
        except BrokerUnavailableError:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def poll(self, timeout_s: float = 0.5) -> Record | None:
        message = self._consumer.poll(timeout_s)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            log.warning("%s: %s", self.topic, error.str())
            return None
        return Record(value=message.value(), partition=message.partition() or 0, offset=message.offset() or 0)

    def poll_batch(self, limit: int, timeout_s: float) -> list[Record]:
        """Waits for the first message, then takes what is already here, up to ``limit``."""
        records = [first] if (first := self.poll(timeout_s)) else []
        while records and len(records) < limit and (record := self.poll(0)) is not None:
            records.append(record)
        return records

    def ends(self) -> dict[int, int]:
        """The offset after the newest message, by partition. Raises :class:`BrokerUnavailableError`."""
        try:
            return {partition.partition: self._end(partition) for partition in self._consumer.assignment()}
        except KafkaException as error:
            raise BrokerUnavailableError(f"{self.topic}: {error.args[0].str()}") from error

    def caught_up(self) -> bool:
        """Whether everything that is on the topic now was handed out. Raises :class:`BrokerUnavailableError`."""
        try:
            positions = {each.partition: each.offset for each in self._consumer.position(self._consumer.assignment())}
            spans = {each.partition: self._consumer.get_watermark_offsets(each, timeout=5.0) for each in self._consumer.assignment()}
        except KafkaException as error:
            raise BrokerUnavailableError(f"{self.topic}: {error.args[0].str()}") from error
        # Before the first message of a partition was handed out, its position is a negative number.
        at = {number: position if position >= 0 else self._starts[number] for number, position in positions.items()}
        return all(max(low, at[number]) >= end for number, (low, end) in spans.items())

    def close(self) -> None:
        self._consumer.close()

    def _assign(self, start: Start, offsets_of: OffsetsOf) -> str:
        cluster_id, numbers = self._find_topic()
        offsets = offsets_of(cluster_id)
        partitions = [TopicPartition(self.topic, number) for number in numbers]
        for partition in partitions:
            known = offsets.get(partition.partition)
            partition.offset = known if known is not None else self._first_offset(partition, start)
        self._starts = {partition.partition: partition.offset for partition in partitions}
        self._consumer.assign(partitions)
        return cluster_id

    def _find_topic(self) -> tuple[str, list[int]]:
        """The cluster's id and the topic's partitions."""
        deadline = time.monotonic() + NEW_TOPIC_S
        while True:
            metadata = self._consumer.list_topics(self.topic, timeout=5.0)
            found = metadata.topics[self.topic]
            if found.error is None:
                return metadata.cluster_id or "", list(found.partitions)
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(f"{self.topic}: {found.error.str()}")
            time.sleep(0.1)

    def _first_offset(self, partition: TopicPartition, start: Start) -> int:
        if self._since is not None:
            wanted = TopicPartition(self.topic, partition.partition, int(self._since * 1000))
            found = self._consumer.offsets_for_times([wanted], timeout=5.0)[0].offset
            return found if found >= 0 else self._end(partition)
        # The end is looked up now: the library's own OFFSET_END is resolved at the first fetch, and what is sent before that is missed.
        return OFFSET_BEGINNING if start is Start.BEGINNING else self._end(partition)

    def _end(self, partition: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(partition, timeout=5.0)[1]


class RecentIds:
    """Remembers the newest ids, so that repeats are recognised in bounded memory."""

    def __init__(self, limit: int = REMEMBERED_IDS) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, identifier: str) -> bool:
        """Whether it is new."""
        if identifier in self._ids:
            return False
        self._ids[identifier] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True


class EventReader:
    """The installation's status events, each once. Made before a request is sent, it sees all of the request's events."""

    def __init__(self, settings: Settings, from_beginning: bool = False) -> None:
        self._reader = TopicReader(settings, topics.EVENTS, Start.BEGINNING if from_beginning else Start.END)
        self._seen = RecentIds()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[StatusEvent]:
        """Endless: waits for the next event."""
        while True:
            event = self.poll()
            if event is not None:
                yield event

    def poll(self, timeout_s: float = 0.5) -> StatusEvent | None:
        """The next event, or None where none came in time."""
        record = self._reader.poll(timeout_s)
        event = parse_event(record) if record else None
        return event if event is not None and self._seen.add(event.event_id) else None

    def wait_for_terminal(
        self, ids: Collection[str], timeout_s: float, on_event: Callable[[StatusEvent], None] | None = None
    ) -> dict[str, StatusEvent]:
        """The terminal event of each request. Raises :class:`TimeoutError` naming those that have none in time."""
        ended: dict[str, StatusEvent] = {}
        wanted, deadline = set(ids), time.monotonic() + timeout_s
        while missing := wanted - ended.keys():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no terminal state within {timeout_s:g} s: {', '.join(sorted(missing))}")
            event = self.poll()
            if event is None or event.request_id not in wanted:
                continue
            if on_event is not None:
                on_event(event)
            if event.state.terminal:
                ended.setdefault(event.request_id, event)
        return ended

    def close(self) -> None:
        self._reader.close()


def parse_event(record: Record) -> StatusEvent | None:
    """None where the record is no state change, with a warning in the log where it is no event of this release at all."""
    try:
        return StatusEvent.from_json(record.value or b"")
    except ValidationError as error:
        if parse_shares(record) is None and parse_scale(record) is None:
            log.warning("events[%d]@%d is not an event: %s", record.partition, record.offset, error.errors()[0]["msg"])
        return None


def parse_shares(record: Record) -> SharesEvent | None:
    """A move of the lanes' shares, or None where the record is something else."""
    try:
        return SharesEvent.from_json(record.value or b"")
    except ValidationError:
        return None


def parse_scale(record: Record) -> ScaleEvent | None:
    """A pool that was asked to become larger or smaller, or None where the record is something else."""
    try:
        return ScaleEvent.from_json(record.value or b"")
    except ValidationError:
        return None
