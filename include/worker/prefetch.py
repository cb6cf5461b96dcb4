"""Versions loaded before anybody asks for them, so that neither a switch, nor a trial, nor the way back costs a stall."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

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


class Role(IntEnum):
    """What a route names a version for, the most wanted first."""

    CHAMPION = 0
    CHALLENGER = 1
    PREVIOUS = 2


@dataclass
class Wanted:
    ref: ModelRef
    role: Role
    is_default: bool
    not_before: float = 0.0
    retry_s: float = FIRST_RETRY_S

    @property
    def rank(self) -> tuple[Role, bool]:
        return self.role, not self.is_default


class Prefetcher:
    """Follows the model routes and loads what they name beside what is loaded already: champions, then versions on trial, then, for a
    rollback, the versions that served before.

    The latter two only where there is room, for they must not cost a champion its place.

    :param max_models: versions loaded ahead at most
    """

    def __init__(self, cache: ModelCache, *, max_models: int = 2, clock: Callable[[], float] = time.monotonic) -> None:
        self.cache = cache
        self.max_models = max_models
        self.clock = clock
        self.wanted: dict[tuple[str, Role], Wanted] = {}

    def note(self, value: bytes | None) -> None:
        """Take up a value of the control topic, if it is a route."""
        try:
            message = control_messages.validate_json(value or b"null")
        except ValidationError:
            return  # a tombstone, or something that the router reports
        if not isinstance(message, ModelRoute):
            return
        for role in Role:
            self.wanted.pop((message.name, role), None)
        if message.champion is not None and message.adapter_of is None:  # an adapter loads onto its model, with its first lease
            for role, ref in _roles(message).items():
                self.wanted[message.name, role] = Wanted(ref, role, message.is_default)

    def load_next(self) -> bool:
        """Load one wanted version; whether one was to be loaded. Those past ``max_models`` wait for their first lease."""
        now = self.clock()
        chosen = sorted(self.wanted.items(), key=lambda pair: pair[1].rank)[: self.max_models]
        for key, wanted in chosen:
            if wanted.not_before <= now and self._has_place(wanted):
                self._load(key, wanted)
                return True
        return False

    def _has_place(self, wanted: Wanted) -> bool:
        return wanted.role is Role.CHAMPION or self.cache.has(wanted.ref) or self.cache.has_room()

    def _load(self, key: tuple[str, Role], wanted: Wanted) -> None:
        try:
            self.cache.get(wanted.ref, ahead=True)
        except ModelLoadError as error:
            log.warning("%s %s is not loaded: %s", wanted.role.name.lower(), wanted.ref.key, error)
            wanted.not_before = self.clock() + wanted.retry_s
            wanted.retry_s = min(2 * wanted.retry_s, LONGEST_RETRY_S)
            if not error.retryable:
                del self.wanted[key]
            return
        del self.wanted[key]


def _roles(route: ModelRoute) -> dict[Role, ModelRef]:
    found = {
        Role.CHAMPION: route.champion,
        Role.CHALLENGER: route.canary.challenger if route.canary else None,
        Role.PREVIOUS: route.previous,
    }
    return {role: ref for role, ref in found.items() if ref is not None}


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
