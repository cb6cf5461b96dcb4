"""The router without Flink: bytes of any topic in, messages for topics out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from include.contracts import topics
from include.contracts.dead_letters import DeadLetter
from include.contracts.dispatch import Lease, Revoke
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import SharesEvent, StatusEvent
from include.contracts.requests import ServiceClass
from include.contracts.wire import ascii_json
from include.routing.parse import Refusal, parse_control, parse_request, parse_worker, refused
from include.scheduling.cell import SOURCE_TOPIC, Decision
from include.scheduling.scheduler import Scheduler

#: A topic's name without the installation's prefix, and the message as ASCII JSON.
Outgoing = tuple[str, str]

#: Of the decisions that go to the same place whatever they hold. By type, because asking pydantic's classes takes longer than sending.
_TOPIC = {StatusEvent: topics.EVENTS, SharesEvent: topics.EVENTS, DeadLetter: topics.DEAD_LETTERS}

_SERVICE_CLASS = {topic: service_class for service_class, topic in SOURCE_TOPIC.items()}
_FAILED = Reason(
    code=ReasonCode.SCHEDULER_FAILED,
    message="the scheduler failed on this message each time; Flink shows how among the exceptions of the router job. "
    "Send it again once that is mended",
)


class Router:
    """Reads what arrives, asks the scheduler, addresses what it decides. Texts are a message's bytes as ISO-8859-1, None for null."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def request(self, text: str | None, service_class: ServiceClass, now: float) -> Iterator[Outgoing]:
        request = parse_request(text)
        if isinstance(request, Refusal) or text is None:
            assert isinstance(request, Refusal)
            return _addressed(self.scheduler.refuse(request, text, service_class, now))
        return _addressed(self.scheduler.submit(request, text, service_class, now))

    def worker(self, text: str | None, now: float) -> Iterator[Outgoing]:
        message = parse_worker(text)
        if isinstance(message, Refusal):
            return _addressed(self.scheduler.reject(topics.WORKERS, message, text, now))
        return _addressed(self.scheduler.on_worker(message, text or "", now))

    def control(self, text: str | None, now: float) -> Iterator[Outgoing]:
        """A null value is how a compacted topic forgets a key; it asks nothing of the router."""
        if text is None:
            return iter(())
        message = parse_control(text)
        if isinstance(message, Refusal):
            return _addressed(self.scheduler.reject(topics.CONTROL, message, text, now))
        return _addressed(self.scheduler.on_control(message, text, now))

    def set_aside(self, text: str | None, topic: str, now: float) -> Iterator[Outgoing]:
        """A message that arrived on ``topic`` and that the methods above raise on goes to the dead letters; a request counts as refused."""
        refusal = refused(_FAILED, b"" if text is None else text.encode("latin-1"))
        service_class = _SERVICE_CLASS.get(topic)
        if service_class is None:
            return _addressed(self.scheduler.reject(topic, refusal, text, now))
        return _addressed(self.scheduler.refuse(refusal, text, service_class, now))

    def tick(self, now: float) -> Iterator[Outgoing]:
        return _addressed(self.scheduler.tick(now))


def _addressed(decisions: Iterable[Decision]) -> Iterator[Outgoing]:
    for decision in decisions:
        yield _topic(decision), ascii_json(decision)


def _topic(decision: Decision) -> str:
    known = _TOPIC.get(type(decision))
    if known is not None:
        return known
    assert isinstance(decision, Lease | Revoke)
    return topics.dispatch(decision.pool)
