"""Reading and writing the compacted control topic."""

from __future__ import annotations

import logging
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from pydantic import ValidationError

from include.config import Settings
from include.contracts import topics
from include.contracts.control import AnyControlMessage, control_messages

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 15.0
SEND_TIMEOUT_S = 5.0


class ControlUnavailableError(Exception):
    """The broker can't be reached, or did not acknowledge in time."""


def parse(value: bytes | None) -> AnyControlMessage | None:
    """None for a tombstone and for what is no control message; the router reports the latter."""
    try:
        return control_messages.validate_json(value) if value else None
    except ValidationError:
        return None


def read_control(settings: Settings) -> dict[str, AnyControlMessage]:
    """The newest message of each key, as of now. Raises :class:`ControlUnavailableError`."""
    partition = TopicPartition(settings.topic_prefix + topics.CONTROL, 0, OFFSET_BEGINNING)
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 2})
    try:
        start, end = consumer.get_watermark_offsets(partition, timeout=5.0)
        if start == end:
            return {}
        consumer.assign([partition])
        return _read_to(consumer, partition, end)
    except KafkaException as error:
        raise ControlUnavailableError(f"can't read {partition.topic} from {settings.bootstrap}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _read_to(consumer: Consumer, partition: TopicPartition, end: int) -> dict[str, AnyControlMessage]:
    found: dict[str, AnyControlMessage] = {}
    deadline = time.monotonic() + READ_TIMEOUT_S
    # Compaction leaves gaps, so the position tells where the reader is, not the last message's offset.
    while _position(consumer, partition) < end:
        if time.monotonic() > deadline:
            raise ControlUnavailableError(f"{partition.topic}: not read to its end within {READ_TIMEOUT_S:g} s")
        for message in consumer.consume(500, 0.2):
            parsed = None if message.error() else parse(message.value())
            if parsed is not None:
                found[parsed.key] = parsed
    return found


def _position(consumer: Consumer, partition: TopicPartition) -> int:
    return int(consumer.position([partition])[0].offset)


class ControlWriter:
    """Writes control messages and waits for each acknowledgement."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.topic_prefix + topics.CONTROL
        self.bootstrap = settings.bootstrap
        self.producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap,
                "acks": "all",
                "linger.ms": 0,
                "delivery.timeout.ms": int(SEND_TIMEOUT_S * 1000),
                "log_level": 2,
            }
        )

    def write(self, message: AnyControlMessage) -> None:
        """Raises :class:`ControlUnavailableError` where it was not acknowledged in time; it may still have arrived."""
        outcome: list[str] = []
        value = message.model_dump_json().encode()  # with nulls, unlike to_json: a route without champion must say so
        try:
            self.producer.produce(self.topic, value, message.key, on_delivery=lambda error, _: outcome.append(error.str() if error else ""))
        except (BufferError, KafkaException) as error:
            raise ControlUnavailableError(f"can't write {message.key} to {self.topic}: {error}") from error
        self.producer.flush(SEND_TIMEOUT_S + 1)
        if outcome != [""]:
            why = outcome[0] if outcome else "no acknowledgement"
            raise ControlUnavailableError(f"can't write {message.key} to {self.topic} at {self.bootstrap}: {why}")
