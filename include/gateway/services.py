"""Everything the routes need, made once at start and ended with the process."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Self

from include.client.errors import BrokerUnavailableError
from include.client.producer import TopicProducer
from include.client.reader import Record
from include.config import Settings
from include.contracts import topics
from include.gateway.control_view import ControlView
from include.gateway.edge.desk import EdgeDesk
from include.gateway.follower import TopicFollower
from include.gateway.hub import Hub
from include.gateway.keys import KeyRing, ensure_keys, read_tenant_keys
from include.gateway.projection import Projection
from include.storage import ObjectStore, open_store

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT_S = 5.0
PRUNE_EVERY_S = 3600.0
BROKER_CHECK_FOR_S = 1.0


class Services:
    """Nothing here needs Kafka or the store to be up: the gateway starts without them and says so."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.keys = KeyRing(ensure_keys(settings.home), read_tenant_keys)
        self.projection = Projection(settings.home / "gateway" / "requests.sqlite")
        self.producer = TopicProducer(settings, delivery_timeout_s=DELIVERY_TIMEOUT_S)
        self.control = ControlView()
        self.hub = Hub(loop)
        self.edge = EdgeDesk(settings, self.hub)
        self.events = TopicFollower(
            settings,
            topics.EVENTS,
            self._on_events,
            lambda cluster: self.projection.offsets(cluster, settings.topic_prefix + topics.EVENTS),
        )
        self.control_follower = TopicFollower(settings, topics.CONTROL, self.control.handle)
        self._store: ObjectStore | None = None
        self._pruned_at = 0.0
        self._broker_checked_at = 0.0
        self._broker_error = ""

    def start(self) -> Self:
        self.events.start()
        self.control_follower.start()
        return self

    def close(self) -> None:
        """Blocks for up to a few seconds."""
        self.events.stop()
        self.control_follower.stop()
        self.edge.close()
        self.producer.close(timeout_s=1.0)
        self.projection.close()

    @property
    def store(self) -> ObjectStore:
        if self._store is None:
            self._store = open_store(self.settings)
        return self._store

    def broker_error(self) -> str:
        """Empty where a broker answers; asked at most once a second."""
        if time.monotonic() - self._broker_checked_at > BROKER_CHECK_FOR_S:
            try:
                self.producer.check_broker()
                self._broker_error = ""
            except BrokerUnavailableError as error:
                self._broker_error = str(error)
            self._broker_checked_at = time.monotonic()
        return self._broker_error

    def _on_events(self, cluster: str, records: list[Record]) -> None:
        changed = self.projection.apply(cluster, self.settings.topic_prefix + topics.EVENTS, records)
        self.hub.notify_from_thread(changed)
        if time.monotonic() - self._pruned_at > PRUNE_EVERY_S:
            self._pruned_at = time.monotonic()
            log.info("%d old requests forgotten", self.projection.prune())
