"""Which workers are alive, by what they said on the topic ``workers`` in the last seconds."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable

from include.config import Settings
from include.contracts import topics
from include.contracts.workers import WorkerKind
from include.platform.service import Unhealthy

HORIZON_S = 15.0
MAX_MESSAGES = 5000


def read_recent(settings: Settings, horizon_s: float = HORIZON_S) -> dict[str, str]:
    """Worker id to the kind of its newest message, of workers heard within ``horizon_s``. Raises :class:`Unhealthy` without a broker."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    name = settings.topic_prefix + topics.WORKERS
    options = {
        "bootstrap.servers": settings.bootstrap,
        "group.id": f"status-{uuid.uuid4().hex}",
        "enable.auto.commit": False,
        "log_level": 0,
    }
    consumer = Consumer(options)
    try:
        since = int((time.time() - horizon_s) * 1000)
        (start,) = consumer.offsets_for_times([TopicPartition(name, 0, since)], timeout=3)
        _, end = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=3)
        if start.offset < 0 or start.offset >= end:
            return {}
        consumer.assign([TopicPartition(name, 0, max(start.offset, end - MAX_MESSAGES))])
        return _collect(consumer, end)
    except KafkaException as error:
        raise Unhealthy(f"no answer from {settings.bootstrap}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _collect(consumer: object, end: int) -> dict[str, str]:
    newest: dict[str, str] = {}
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):  # type: ignore[attr-defined]
            newest |= _said(message.value())
            if message.offset() >= end - 1:
                return newest
    return newest


def _said(value: bytes | None) -> dict[str, str]:
    """The kind alone, unvalidated: status must not fail because a worker says something wrong."""
    try:
        message = json.loads(value or b"")
        return {str(message["worker_id"]): str(message["kind"])}
    except (ValueError, KeyError, TypeError):
        return {}


def worker_check(settings: Settings) -> Callable[[str], None]:
    """A check for workers by id. Workers that are asked about at the same time share one reading of the topic."""
    lock = threading.Lock()
    read_at, heard = float("-inf"), {}

    def check(worker_id: str) -> None:
        nonlocal read_at, heard
        with lock:
            if time.monotonic() - read_at > 1.0:
                heard = read_recent(settings)
                read_at = time.monotonic()
        kind = heard.get(worker_id)
        if kind is None:
            raise Unhealthy(f"not heard on topic {settings.topic_prefix}{topics.WORKERS} for {HORIZON_S:g} s")
        if kind == WorkerKind.GOODBYE:
            raise Unhealthy("said goodbye")

    return check
