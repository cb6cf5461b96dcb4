"""Sending to Kafka: acknowledged by all replicas, idempotent, and never silently lost."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from include.client.errors import BrokerUnavailableError, DeliveryError
from include.config import Settings
from include.contracts import topics
from include.contracts.requests import GenerationRequest, ServiceClass

log = logging.getLogger(__name__)

INGRESS = {ServiceClass.REALTIME: topics.REALTIME, ServiceClass.BATCH: topics.BATCH}
POLL_S = 0.1
#: Larger than any message that Atelier takes, so that a producer can be told by Atelier, not by its own library, that one is too large.
MAX_PRODUCED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where an acknowledged message is."""

    topic: str  #: with the installation's prefix
    partition: int
    offset: int


class TopicProducer:
    """Puts bytes on topics; a thread of its own collects the acknowledgements.

    :param delivery_timeout_s: after this the delivery of a message fails with :class:`DeliveryError`.
    """

    def __init__(self, settings: Settings, *, delivery_timeout_s: float = 30.0) -> None:
        self._prefix = settings.topic_prefix
        self._timeout_s = delivery_timeout_s
        self._config = {
            "bootstrap.servers": settings.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "delivery.timeout.ms": int(delivery_timeout_s * 1000),
            "message.max.bytes": MAX_PRODUCED_BYTES,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 2,
        }
        self._fatal = threading.Event()
        self._producer = self._new_producer()
        self._renewal = threading.Lock()
        self._stopped = threading.Event()
        self._poller = threading.Thread(target=self._collect, name="kafka-deliveries", daemon=True)
        self._poller.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def post(self, topic: str, value: bytes | None, key: str | None = None) -> Future[Delivery]:
        """Hands the message over and returns at once; the future gets the delivery or a :class:`DeliveryError`.

        :param topic: without the installation's prefix
        """
        future: Future[Delivery] = Future()
        future.set_running_or_notify_cancel()  # what is on its way can't be cancelled, whoever stops waiting
        try:
            self._live_producer().produce(
                self._prefix + topic, value=value, key=key, on_delivery=lambda error, message: _resolve(future, error, message)
            )
        except BufferError as error:
            future.set_exception(DeliveryError(f"{self._prefix + topic}: the send buffer is full; the broker is away or too slow: {error}"))
        except KafkaException as error:
            future.set_exception(DeliveryError(f"{self._prefix + topic}: {error.args[0].str()}"))
        return future

    def put(self, topic: str, value: bytes | None, key: str | None = None) -> Delivery:
        """Sends and waits for the acknowledgement. Raises :class:`DeliveryError`."""
        return self.post(topic, value, key).result(self._timeout_s + 5)

    def check_broker(self, timeout_s: float = 2.0) -> None:
        """Raises :class:`BrokerUnavailableError` where no broker answers."""
        try:
            self._producer.list_topics(timeout=timeout_s)
        except KafkaException as error:
            raise BrokerUnavailableError(f"no answer from {self._config['bootstrap.servers']}: {error.args[0].str()}") from error

    def close(self, timeout_s: float = 5.0) -> None:
        """Waits for what is on its way, then stops. Undelivered messages fail their futures."""
        self._producer.flush(timeout_s)
        _fail_pending(self._producer)
        self._stopped.set()
        self._poller.join()

    def _collect(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(POLL_S)

    def _new_producer(self) -> Producer:
        self._fatal.clear()
        return Producer({**self._config, "error_cb": self._on_error})

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            log.error("the Kafka producer failed for good and will be replaced: %s", error.str())
            self._fatal.set()

    def _live_producer(self) -> Producer:
        with self._renewal:
            if self._fatal.is_set():
                _fail_pending(self._producer)
                self._producer = self._new_producer()
            return self._producer


def _fail_pending(producer: Producer) -> None:
    producer.purge()
    producer.flush(1.0)


def _resolve(future: Future[Delivery], error: KafkaError | None, message: Message) -> None:
    if error is not None:
        future.set_exception(DeliveryError(f"{message.topic()}: {error.str()}"))
        return
    future.set_result(Delivery(topic=message.topic() or "", partition=message.partition() or 0, offset=message.offset() or 0))


class RequestProducer:
    """Sends generation requests.

    >>> with RequestProducer(settings()) as producer:
    ...     producer.send(GenerationRequest(request_id="r1", tenant="acme", prompt="red apple"))
    """

    def __init__(self, settings: Settings, *, delivery_timeout_s: float = 30.0) -> None:
        self._topics = TopicProducer(settings, delivery_timeout_s=delivery_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def send(self, request: GenerationRequest, service_class: ServiceClass = ServiceClass.REALTIME) -> Delivery:
        """Returns once the request is durable. Raises :class:`DeliveryError`."""
        return self.post(request, service_class).result()

    def post(self, request: GenerationRequest, service_class: ServiceClass = ServiceClass.REALTIME) -> Future[Delivery]:
        """As :meth:`send` without the wait, for those who send many; the future must be asked."""
        return self._topics.post(INGRESS[service_class], request.to_json(), request.request_id)

    def send_bytes(self, value: bytes | None, service_class: ServiceClass = ServiceClass.REALTIME, key: str | None = None) -> Delivery:
        """Sends bytes as they are, valid or not. Raises :class:`DeliveryError`."""
        return self._topics.put(INGRESS[service_class], value, key)

    def close(self) -> None:
        self._topics.close()
