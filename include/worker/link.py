"""The worker's two topics: its pool's dispatches in, its reports out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from include.config import Settings
from include.contracts import topics
from include.contracts.dispatch import AnyDispatchMessage, Lease
from include.contracts.workers import WorkerMessage
from include.worker.dispatches import Unreadable, read_dispatch

log = logging.getLogger(__name__)

RETRY_S = 1.0
OFFSET_TIMEOUT_S = 5.0
MAX_POLLED = 100


class WorkerLink:
    """Rides out a broker that is away: what was sent stays queued and in order until it returns.

    The consumer belongs to the thread that calls :meth:`connect` and :meth:`poll`; :meth:`send` may be called from any.
    """

    def __init__(self, settings: Settings, *, pool: str, worker_id: str, incarnation: str) -> None:
        self.bootstrap = settings.bootstrap
        self.where = f"Kafka at {settings.bootstrap}"
        self.worker_id = worker_id
        self.incarnation = incarnation
        self.source = settings.topic_prefix + topics.dispatch(pool)
        self.sink = settings.topic_prefix + topics.WORKERS
        shared = {"bootstrap.servers": settings.bootstrap, "reconnect.backoff.max.ms": 1000, "log_level": 2}
        self._consumer = Consumer(
            {**shared, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "latest", "fetch.wait.max.ms": 100},
        )
        # One request in flight keeps the order over retries, as idempotence would, without its fatal errors: a repeated report is harmless.
        self._producer = Producer(
            {**shared, "acks": "all", "linger.ms": 0, "message.timeout.ms": 0, "max.in.flight.requests.per.connection": 1}
        )

    def connect(self, stop: threading.Event) -> bool:
        """From here on :meth:`poll` misses no dispatch. Waits for broker and topic; False where ``stop`` was set meanwhile."""
        while not stop.is_set():
            try:
                self._consumer.assign(self._ends())
                return True
            except KafkaException as error:
                log.warning("waiting for topic %s at %s: %s", self.source, self.bootstrap, error.args[0].str())
            stop.wait(RETRY_S)
        return False

    def poll(self, timeout_s: float) -> list[AnyDispatchMessage | Unreadable]:
        """Dispatches for this worker's incarnation. Also hands out the acknowledgements of what was sent."""
        first = self._consumer.poll(timeout_s)
        more = self._consumer.consume(MAX_POLLED, 0) if first is not None else []
        self._producer.poll(0)
        return [found for message in (first, *more) if message is not None and (found := self._parse(message)) is not None]

    def send(self, message: WorkerMessage, on_delivered: Callable[[], None] | None = None) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                log.error("%s was not delivered: %s", type(message).__name__, error.str())
            elif on_delivered:
                on_delivered()

        try:
            self._producer.produce(self.sink, message.to_json(), self.worker_id, on_delivery=delivered)
        except BufferError:
            log.error("%s is lost: the broker is away and the send buffer is full", type(message).__name__)

    def close(self, timeout_s: float) -> int:
        """Waits for the acknowledgements; returns how many did not come."""
        left = self._producer.flush(timeout_s)
        self._consumer.close()
        return int(left)

    def _ends(self) -> list[TopicPartition]:
        metadata = self._consumer.list_topics(self.source, timeout=OFFSET_TIMEOUT_S).topics[self.source]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        ends = []
        for number in metadata.partitions:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self.source, number), timeout=OFFSET_TIMEOUT_S)
            ends.append(TopicPartition(self.source, number, end))
        return ends

    def _parse(self, message: Message) -> AnyDispatchMessage | Unreadable | None:
        if (trouble := message.error()) is not None:
            log.warning("reading %s: %s", self.source, trouble.str())
            return None
        found = read_dispatch(message.value() or b"", worker_id=self.worker_id, incarnation=self.incarnation)
        if found is None or isinstance(found, Unreadable):
            return found
        if found.worker_id != self.worker_id or (isinstance(found, Lease) and found.incarnation != self.incarnation):
            return None
        return found
