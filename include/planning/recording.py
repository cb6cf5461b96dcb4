"""The requests that the topics hold, as a recording to simulate with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from include.client.reader import Record
from include.client.scanning import Progress, TopicScan, no_progress
from include.config import Settings
from include.contracts.requests import GenerationRequest, ServiceClass
from include.scheduling.cell import SOURCE_TOPIC
from include.simulation.policy import Arrival


@dataclass(kw_only=True)
class Recording:
    """What was asked for, each id once as the router takes it, and how much was left out."""

    since: float = 0.0  #: seconds since 1970; what is older is none of it
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    repeated: int = 0  #: messages with an id that came before
    unreadable: int = 0  #: messages that the router refuses as they are

    def take(self, records: Iterable[Record], service_class: ServiceClass) -> None:
        for record in records:
            if record.at is not None and record.at >= self.since:
                self._take_one(record.value or b"", record.at, service_class)

    def in_order(self) -> list[Arrival]:
        """By time of arrival."""
        return sorted(self.arrivals.values(), key=lambda arrival: arrival.at)

    def _take_one(self, value: bytes, at: float, service_class: ServiceClass) -> None:
        try:
            request = GenerationRequest.from_json(value)
        except ValidationError:
            self.unreadable += 1
            return
        first = self.arrivals.get(request.request_id)
        self.repeated += first is not None
        if first is None or at < first.at:
            raw = value.decode("latin-1")
            self.arrivals[request.request_id] = Arrival(at=at, request=request, service_class=service_class, raw=raw)


def read_recording_of(settings: Settings, since: float = 0.0, on_progress: Progress = no_progress) -> Recording:
    """Both topics of requests, oldest to newest. Raises :class:`BrokerUnavailableError`."""
    recording = Recording(since=since)
    for service_class, topic in SOURCE_TOPIC.items():
        recording.take(TopicScan(settings, topic, on_progress), service_class)
    return recording
