"""How far the router has read a topic, by the offsets that it committed with its last checkpoint."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from include.config import Settings

ANSWER_S = 5.0


class RouterOffsets:
    """Asks for the committed offsets of the router's consumer group without joining it.

    What the job has read but still holds in its own buffers counts as read.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = settings.topic_prefix + topic
        options = {"bootstrap.servers": settings.bootstrap, "group.id": settings.router_group, "enable.auto.commit": False, "log_level": 2}
        self._consumer = Consumer(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._consumer.close()

    def committed(self) -> dict[int, int]:
        """The next offset of each partition; 0 where nothing was committed. Raises :class:`KafkaException`."""
        numbers = self._consumer.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic].partitions
        found = self._consumer.committed([TopicPartition(self._topic, number) for number in numbers], timeout=ANSWER_S)
        return {one.partition: max(0, one.offset) for one in found}

    def lag(self) -> int | None:
        """Messages that wait in Kafka; None where the broker does not say."""
        try:
            committed = self.committed()
            ends = {number: self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), ANSWER_S)[1] for number in committed}
        except KafkaException:
            return None
        return sum(max(0, ends[number] - offset) for number, offset in committed.items())
