"""Watches the topics while the demo runs: what the router says of requests, what the workers say of themselves."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from include.client.reader import RecentIds, Record, Start, TopicReader, parse_event, parse_shares
from include.config import Settings
from include.contracts import topics
from include.contracts.control import ModelRoute, control_messages
from include.contracts.dead_letters import DeadLetter
from include.contracts.events import SharesEvent, StatusEvent
from include.contracts.workers import (
    Completed,
    Credit,
    Failed,
    Goodbye,
    Hello,
    RenderProgress,
    Started,
    WorkerMessage,
    worker_messages,
)

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass
class WorkerView:
    """A worker as its own messages show it."""

    worker_id: str
    pool: str
    device: str = ""
    busy_with: str = ""  #: the lease that renders now
    held: int = 0  #: micro-batches it holds
    slots: int = 0
    warm: tuple[str, ...] = ()
    completed: int = 0
    failed: int = 0
    utilisation: float | None = None
    last_at: float = 0.0
    started_at: float = 0.0  #: when its process said that it is there
    gone: bool = False


@dataclass
class RenderView:
    """A lease as its worker's messages show it; times in seconds since 1970."""

    worker_id: str
    started_at: float
    step: int = 0  #: the last that was reported
    step_at: float = 0.0
    freed_at: float | None = None  #: when the worker said that it holds the lease no more

    @property
    def step_s(self) -> float | None:
        """Seconds that a step took so far; None before the first report."""
        return (self.step_at - self.started_at) / self.step if self.step else None


@dataclass
class Seen:
    """What was seen so far; :meth:`Observer.ask` reads it."""

    events: dict[str, list[StatusEvent]] = field(default_factory=lambda: defaultdict(list))
    dead_letters: list[DeadLetter] = field(default_factory=list)
    workers: dict[str, WorkerView] = field(default_factory=dict)
    renders: dict[str, RenderView] = field(default_factory=dict)  #: by lease
    shares: list[SharesEvent] = field(default_factory=list)
    routes: list[ModelRoute] = field(default_factory=list)  #: as the registry watcher sent them

    def newest(self, request_id: str) -> StatusEvent | None:
        """The terminal event where there is one, else the last."""
        found = self.events.get(request_id, [])
        return next((event for event in found if event.state.terminal), found[-1] if found else None)

    def terminal(self, request_id: str) -> StatusEvent | None:
        newest = self.newest(request_id)
        return newest if newest is not None and newest.state.terminal else None


class Observer:
    """Reads from the end of the topics at the moment it is made. Raises :class:`BrokerUnavailableError`."""

    def __init__(self, settings: Settings) -> None:
        self._seen = Seen()
        self._ids = RecentIds()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        handlers: dict[str, Callable[[Record], None]] = {
            topics.EVENTS: self._on_event,
            topics.DEAD_LETTERS: self._on_dead_letter,
            topics.WORKERS: self._on_worker,
            topics.CONTROL: self._on_control,
        }
        self._threads = [
            threading.Thread(target=self._follow, args=(TopicReader(settings, topic, Start.END), handle), name=f"demo-{topic}", daemon=True)
            for topic, handle in handlers.items()
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(5)

    def ask(self, question: Callable[[Seen], Answer]) -> Answer:
        """The answer, while nothing is written."""
        with self._changed:
            return question(self._seen)

    def wait(self, condition: Callable[[Seen], bool], timeout_s: float) -> bool:
        """Whether the condition became true in time; asked after each change."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._seen), timeout_s)

    def _follow(self, reader: TopicReader, handle: Callable[[Record], None]) -> None:
        with reader:
            while not self._stopped.is_set():
                record = reader.poll(0.2)
                if record is None:
                    continue
                try:
                    with self._changed:
                        handle(record)
                        self._changed.notify_all()
                except ValueError as error:  # also pydantic's
                    log.warning("%s@%d is not understood: %s", reader.topic, record.offset, error)

    def _on_event(self, record: Record) -> None:
        event = parse_event(record)
        if event is None:
            self._on_shares(record)
        elif self._ids.add(event.event_id):
            self._seen.events[event.request_id].append(event)

    def _on_shares(self, record: Record) -> None:
        move = parse_shares(record)
        if move is not None and self._ids.add(move.event_id):
            self._seen.shares.append(move)

    def _on_dead_letter(self, record: Record) -> None:
        self._seen.dead_letters.append(DeadLetter.from_json(record.value or b""))

    def _on_worker(self, record: Record) -> None:
        message = worker_messages.validate_json(record.value or b"")
        view = self._seen.workers.setdefault(message.worker_id, WorkerView(message.worker_id, message.pool))
        update_worker(view, message)
        update_renders(self._seen.renders, message)

    def _on_control(self, record: Record) -> None:
        message = control_messages.validate_json(record.value) if record.value else None
        if isinstance(message, ModelRoute):
            self._seen.routes.append(message)


def update_worker(view: WorkerView, message: WorkerMessage) -> None:
    view.last_at, view.gone = message.at, isinstance(message, Goodbye)
    if isinstance(message, Hello):
        view.device, view.slots, view.warm, view.started_at = message.device, message.slots, message.warm_models, message.at
    elif isinstance(message, Credit):
        view.slots, view.held, view.warm, view.utilisation = message.slots, len(message.held), message.warm_models, message.utilisation
        view.busy_with = view.busy_with if view.busy_with in message.held else ""
    elif isinstance(message, Started):
        view.busy_with = message.lease_id
    elif isinstance(message, Completed):
        view.completed += 1
    elif isinstance(message, Failed):
        view.failed += 1


def update_renders(renders: dict[str, RenderView], message: WorkerMessage) -> None:
    if isinstance(message, Started):
        renders[message.lease_id] = RenderView(message.worker_id, message.at)
    elif isinstance(message, RenderProgress):
        view = renders.setdefault(message.lease_id, RenderView(message.worker_id, message.at))
        view.step, view.step_at = message.progress.step, message.at
    elif isinstance(message, Credit):
        for lease_id, view in renders.items():
            if view.worker_id == message.worker_id and view.freed_at is None and lease_id not in message.held:
                view.freed_at = message.at
