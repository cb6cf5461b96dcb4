"""Champions loaded before anybody asks for them, so that a switch costs no stall."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from include.config import Settings
from include.contracts import topics
from include.contracts.control import ModelRoute, control_messages
from include.contracts.dispatch import ModelRef
from include.worker.cache import ModelCache, ModelLoadError

log = logging.getLogger(__name__)

POLL_S = 0.2
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0


@dataclass
class Wanted:
    ref: ModelRef
    is_default: bool
    not_before: float = 0.0
    retry_s: float = FIRST_RETRY_S


class Prefetcher:
    """Follows the model routes and loads each new champion beside what is loaded already.

    :param max_models: champions loaded ahead at most
    """

    def __init__(self, cache: ModelCache, *, max_models: int = 2, clock: Callable[[], float] = time.monotonic) -> None:
        self.cache = cache
        self.max_models = max_models
        self.clock = clock
        self.wanted: dict[str, Wanted] = {}

    def note(self, value: bytes | None) -> None:
        """Take up a value of the control topic, if it is a route."""
        try:
            message = control_messages.validate_json(value or b"null")
        except ValidationError:
            return  # a tombstone, or something that the router reports
        if not isinstance(message, ModelRoute):
            return
        self.wanted.pop(message.name, None)
        if message.champion is not None and message.adapter_of is None:  # an adapter loads onto its model, with its first lease
            self.wanted[message.name] = Wanted(message.champion, message.is_default)

    def load_next(self) -> bool:
        """Load one wanted champion; whether one was to be loaded. Champions past ``max_models`` wait for their first lease."""
        now = self.clock()
        chosen = sorted(self.wanted.items(), key=lambda pair: not pair[1].is_default)[: self.max_models]
        for name, wanted in chosen:
            if wanted.not_before <= now:
                self._load(name, wanted)
                return True
        return False

    def _load(self, name: str, wanted: Wanted) -> None:
        try:
            self.cache.get(wanted.ref)
        except ModelLoadError as error:
            log.warning("champion %s is not loaded: %s", wanted.ref.key, error)
            wanted.not_before = self.clock() + wanted.retry_s
            wanted.retry_s = min(2 * wanted.retry_s, LONGEST_RETRY_S)
            if not error.retryable:
                del self.wanted[name]
            return
        del self.wanted[name]


def follow_routes(settings: Settings, prefetcher: Prefetcher, stop: threading.Event) -> None:
    """Feeds the control topic to the prefetcher until ``stop``; loads only while no message waits."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            "log_level": 2,
        }
    )
    consumer.assign([TopicPartition(settings.topic_prefix + topics.CONTROL, 0, OFFSET_BEGINNING)])
    try:
        while not stop.is_set():
            try:
                message = consumer.poll(POLL_S)
            except KafkaException as error:
                log.warning("reading %s%s: %s", settings.topic_prefix, topics.CONTROL, error)
                stop.wait(FIRST_RETRY_S)
                continue
            if message is None:
                prefetcher.load_next()
            elif message.error() is None:
                prefetcher.note(message.value())
    finally:
        consumer.close()
