"""What the control topic says now: which models are served and which scenarios are offered."""

from __future__ import annotations

import logging
import threading

from pydantic import ValidationError

from include.client.reader import Record
from include.contracts.control import ControlMessage, ModelRoute, Scenario, control_messages

log = logging.getLogger(__name__)


class ControlView:
    """The newest message of each key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, ControlMessage] = {}

    def handle(self, cluster_id: str, records: list[Record]) -> None:
        for record in records:
            if record.value is not None:
                self._take(record)

    def routes(self) -> list[ModelRoute]:
        """Models in service, by name."""
        with self._lock:
            found = [message for message in self._newest.values() if isinstance(message, ModelRoute) and message.champion is not None]
        return sorted(found, key=lambda route: route.name)

    def scenarios(self) -> list[Scenario]:
        """Scenarios on offer, by name."""
        with self._lock:
            found = [message for message in self._newest.values() if isinstance(message, Scenario) and not message.retired]
        return sorted(found, key=lambda scenario: scenario.name)

    def _take(self, record: Record) -> None:
        try:
            message = control_messages.validate_json(record.value or b"")
        except ValidationError as error:
            log.warning("control[%d]@%d is refused, what was known stays: %s", record.partition, record.offset, error.errors()[0]["msg"])
            return
        if isinstance(message, (ModelRoute, Scenario)):
            with self._lock:
                self._newest[message.key] = message
