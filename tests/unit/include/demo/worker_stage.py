"""The acts of the workers as they must go: what router and workers would have said, without either."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Progress, State, StatusEvent, event_id
from include.contracts.requests import ServiceClass, Tier
from include.demo.good_requests import good_request
from include.demo.judging import judge_good
from include.demo.observer import RenderView, Seen
from include.demo.planned import Planned, Way
from include.demo.previews import Frame
from include.demo.worker_acts import Cancellation, Crash, Story, WorkerActs
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import completed, event_of

KILLED_AT = 1000.0


def request(name: str, way: Way = Way.GATEWAY, tenant: str = "acme", steps: int = 160) -> Planned:
    return good_request(f"test-{name}", tenant, Tier.PRO, way, ServiceClass.REALTIME, "owl", {"steps": steps})


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def processing(planned: Planned, worker_id: str, attempt: int = 1, step: int = 0, **fields: Any) -> StatusEvent:
    progress = Progress(step=step, steps=160) if step else None
    name = event_id(planned.request_id or "", State.PROCESSING, attempt, step)
    return event_of(planned, State.PROCESSING, worker_id=worker_id, attempt=attempt, progress=progress, **fields).model_copy(
        update={"event_id": name}
    )


@dataclass
class Script:
    """What is said of each request; change it before :meth:`acts` to see another end."""

    store: ObjectStore
    seen: Seen = field(default_factory=Seen)
    frames: list[Frame] = field(default_factory=list)
    back_s: float | None = 6.5
    render: RenderView | None = field(
        default_factory=lambda: RenderView("worker-1", started_at=990.0, step=40, step_at=992.0, freed_at=995.03)
    )

    def __post_init__(self) -> None:
        self.watched, self.cancelled = request("watched"), request("cancelled", tenant="globex", steps=200)
        self.struck, self.spared = request("crash-0", Way.KAFKA, "hooli", 100), request("crash-1", Way.KAFKA, "hooli", 100)
        lost = Reason(code=ReasonCode.WORKER_LOST, message="worker worker-0 started anew while it held the lease")
        self.say(processing(self.watched, "worker-0"), completed(self.watched, self.store))
        self.say(processing(self.cancelled, "worker-1"), event_of(self.cancelled, State.CANCELLED, at=995.0))
        self.say(
            processing(self.struck, "worker-0", step=20, at=KILLED_AT - 1),
            event_of(self.struck, State.RETRYING, at=KILLED_AT + 6.5, reason=lost, attempt=1),
            processing(self.struck, "worker-1", attempt=2, at=KILLED_AT + 7.5),
            completed(self.struck, self.store, at=KILLED_AT + 11.0, attempt=2),
        )
        self.say(processing(self.spared, "worker-1"), completed(self.spared, self.store, at=KILLED_AT + 3.0, attempt=1))
        self.frames = [
            Frame(request_id="test-watched", step=step, steps=160, data=jpeg(colour)) for step, colour in ((32, "grey"), (64, "red"))
        ]

    def say(self, *events: StatusEvent) -> None:
        for event in events:
            self.seen.events[event.request_id].append(event)

    def story(self, planned: Planned) -> Story:
        events = tuple(self.seen.events[planned.request_id or ""])
        return Story(planned=planned, events=events, verdict=judge_good(planned, self.seen, self.store))

    def acts(self) -> WorkerActs:
        crash = Crash(
            worker_id="worker-0",
            pid=4711,
            at=KILLED_AT,
            on_it=frozenset({"test-crash-0"}),
            stories=(self.story(self.struck), self.story(self.spared)),
            back_s=self.back_s,
        )
        cancellation = Cancellation(story=self.story(self.cancelled), answered=202, render=self.render)
        return WorkerActs(watched=self.story(self.watched), cancellation=cancellation, crash=crash, frames=tuple(self.frames))
