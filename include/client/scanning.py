"""A topic from its oldest message to the end it had when one began to read: for questions about the past."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from include.client.errors import BrokerUnavailableError
from include.client.reader import Record
from include.config import Settings
from include.contracts.dead_letters import DeadLetter

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  #: messages read, messages there were at the start

ANSWER_S = 10.0  #: how long a broker may take to answer a question about the topic; a busy one takes seconds
BATCH = 1000
LEADER_MOVES = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
RETRY_S = 0.1  #: between two questions about a topic whose leader moves

#: Ids hold nothing that JSON escapes; so a message that isn't wanted need not be parsed to be known. 40 times as fast as pydantic.
_REQUEST_ID = re.compile(rb'"request_id"\s*:\s*"([A-Za-z0-9._-]+)"')


def request_id_of(value: bytes | None) -> str | None:
    """The id in an event or a dead letter, without parsing it."""
    found = _REQUEST_ID.search(value or b"")
    return found[1].decode() if found else None


def parse_letter(record: Record) -> DeadLetter | None:
    """None where the record is no dead letter of this release."""
    try:
        return DeadLetter.from_json(record.value or b"")
    except ValidationError as error:
        log.debug("dead-letters[%d]@%d is not a dead letter: %s", record.partition, record.offset, error.errors()[0]["msg"])
        return None


def no_progress(done: int, total: int) -> None:
    pass


class TopicScan:
    """Iterate over it once.

    :param topic: without the installation's prefix
    :param patience_s: a broker that is silent this long is taken to be away

    Raises :class:`BrokerUnavailableError` where the broker does not answer, falls silent, or does not have the topic.
    """

    def __init__(self, settings: Settings, topic: str, on_progress: Progress = no_progress, *, patience_s: float = 15.0) -> None:
        self.topic = settings.topic_prefix + topic
        self.ends: dict[int, int] = {}  #: offset after the last message, by partition
        self.total = 0  #: messages between the oldest and the end
        self.oldest_at: float | None = None  #: when the oldest message was put there, in seconds since 1970
        self._bootstrap = settings.bootstrap
        self._patience_s = patience_s
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Record]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "atelier-scans",  # required by the library; nothing is committed under it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "log_level": 2,
            }
        )
        try:
            yield from self._records(consumer, self._assigned(consumer))
        except KafkaException as error:
            raise BrokerUnavailableError(f"{self.topic} can't be read from {self._bootstrap}: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _assigned(self, consumer: Consumer) -> set[int]:
        """Asked again while a partition's leader moves, or has not taken up its part yet as just after the topic was made."""
        asked_at = time.monotonic()
        while True:
            try:
                return self._assign(consumer)
            except KafkaException as error:
                if error.args[0].code() not in LEADER_MOVES or time.monotonic() - asked_at > self._patience_s:
                    raise
                time.sleep(RETRY_S)

    def _assign(self, consumer: Consumer) -> set[int]:
        """Sets it to the oldest messages; returns the partitions that hold any."""
        found = consumer.list_topics(self.topic, timeout=ANSWER_S).topics[self.topic]
        if found.error is not None:
            raise BrokerUnavailableError(f"{self.topic}: {found.error.str()}")
        spans = {
            number: consumer.get_watermark_offsets(TopicPartition(self.topic, number), timeout=ANSWER_S) for number in found.partitions
        }
        self.ends = {number: end for number, (_, end) in spans.items()}
        self.total = sum(end - start for start, end in spans.values())
        consumer.assign([TopicPartition(self.topic, number, start) for number, (start, _) in spans.items()])
        return {number for number, (start, end) in spans.items() if end > start}

    def _records(self, consumer: Consumer, unread: set[int]) -> Iterator[Record]:
        done, heard_at = 0, time.monotonic()
        while unread:
            before = done, len(unread)
            for message in consumer.consume(BATCH, 0.5):
                record = self._taken(message, unread)
                if record is not None:
                    done += 1
                    yield record
            # Errors come as messages too, so what counts is that it goes on.
            if (done, len(unread)) != before:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > self._patience_s:
                raise BrokerUnavailableError(f"{self.topic}: no answer from {self._bootstrap} for {self._patience_s:g} s")
            self._on_progress(min(done, self.total), self.total)

    def _taken(self, message: Message, unread: set[int]) -> Record | None:
        """The message if it was there at the start; a partition that is through leaves ``unread``."""
        partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                unread.discard(partition)
            elif not error.retriable():
                raise KafkaException(error)
            return None
        if offset >= self.ends[partition] - 1:
            unread.discard(partition)
        if offset >= self.ends[partition]:
            return None
        at = _put_at(message)
        if at is not None and (self.oldest_at is None or at < self.oldest_at):
            self.oldest_at = at
        return Record(value=message.value(), partition=partition, offset=offset, at=at)


def _put_at(message: Message) -> float | None:
    kind, milliseconds = message.timestamp()
    return milliseconds / 1000 if kind else None
