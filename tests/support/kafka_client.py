"""Sending and reading raw values of a topic in tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from confluent_kafka import Consumer, Producer

from include.config import Settings
from tests.support.waiting import wait_for


def send(settings: Settings, topic: str, *values: bytes | str | None, key: str | None = None) -> None:
    """Send to ``topic`` (name without prefix) and wait until the broker has acknowledged each value."""
    failures: list[str] = []
    producer = Producer({"bootstrap.servers": settings.bootstrap, "message.max.bytes": 4_000_000})
    for value in values:
        producer.produce(
            settings.topic_prefix + topic, value, key, on_delivery=lambda error, _: failures.append(error.str()) if error else None
        )
    undelivered = producer.flush(30)
    assert not undelivered and not failures, f"{undelivered} of {len(values)} not delivered: {failures}"


class TopicReader:
    """Reads a topic from its beginning and keeps every value it has seen."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.values: list[bytes | None] = []
        self.consumer = Consumer(
            {"bootstrap.servers": settings.bootstrap, "group.id": f"test-{uuid.uuid4().hex}", "auto.offset.reset": "earliest"}
        )
        self.consumer.subscribe([settings.topic_prefix + topic])

    def poll(self, timeout: float = 0.2) -> list[bytes | None]:
        for message in self.consumer.consume(500, timeout):
            assert message.error() is None, message.error()
            self.values.append(message.value())
        return self.values

    def wait_until(self, enough: Callable[[list[bytes | None]], bool], timeout: float = 30.0, message: str = "") -> list[bytes | None]:
        """All values once ``enough`` is true of them."""
        wait_for(lambda: enough(self.poll()), timeout, message or "messages", interval=0)
        return self.values

    def wait_count(self, count: int, timeout: float = 30.0) -> list[bytes | None]:
        return self.wait_until(lambda values: len(values) >= count, timeout, f"{count} messages")

    def close(self) -> None:
        self.consumer.close()
