"""What workers are for: one render is watched, one is cancelled in the middle, one worker is killed in the middle of others."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.text import Text

from include.config import Settings
from include.contracts.events import State, StatusEvent
from include.contracts.requests import ServiceClass, Tier
from include.demo.good_requests import good_request
from include.demo.judging import Verdict, judge_good
from include.demo.live import newest_events, plain_line, shown, states_line, workers_table
from include.demo.observer import Observer, RenderView, Seen
from include.demo.planned import Planned, Way
from include.demo.previews import Frame, PreviewWatch, as_text
from include.demo.sending import Sender
from include.demo.steps import StepFailedError
from include.platform.supervisor import Supervisor
from include.storage import ObjectStore, open_store

#: Long enough to be caught in the middle on a laptop, short enough for a demo.
WATCHED_STEPS, CANCELLED_STEPS, KILLED_STEPS = 160, 200, 100
ON_THEIR_WAY = 4  #: requests that render on all workers when one of them is killed
BEGIN_TIMEOUT_S, END_TIMEOUT_S = 60.0, 120.0
PROMPTS = ("birthday cake", "owl", "tulip", "crown", "snowman", "lemon")


@dataclass(frozen=True, kw_only=True)
class Story:
    """A request with all that was told of it, and whether its images are there."""

    planned: Planned
    events: tuple[StatusEvent, ...]
    verdict: Verdict

    @property
    def id(self) -> str:
        return self.planned.request_id or ""

    @property
    def terminals(self) -> int:
        return sum(event.state.terminal for event in self.events)

    @property
    def workers(self) -> list[str]:
        """Those that it was dispatched to, in turn."""
        by_attempt = {event.attempt: event.worker_id for event in self.events if event.state is State.PROCESSING and event.worker_id}
        return [by_attempt[attempt] for attempt in sorted(by_attempt)]

    @property
    def retry(self) -> StatusEvent | None:
        return next((event for event in self.events if event.state is State.RETRYING), None)


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    story: Story
    answered: int  #: the gateway's HTTP status
    render: RenderView | None  #: as its worker told of it

    @property
    def event(self) -> StatusEvent | None:
        return self.story.verdict.event

    @property
    def went_on_s(self) -> float | None:
        """From the cancellation to the moment at which the worker had let go of it; None where either did not come."""
        if self.event is None or self.render is None or self.render.freed_at is None:
            return None
        return max(0.0, self.render.freed_at - self.event.at)

    @property
    def went_on_steps(self) -> float | None:
        """The same, in steps of that render."""
        step_s = self.render.step_s if self.render else None
        return self.went_on_s / step_s if self.went_on_s is not None and step_s else None


@dataclass(frozen=True, kw_only=True)
class Crash:
    worker_id: str
    pid: int
    at: float  #: when it was killed, seconds since 1970
    on_it: frozenset[str]  #: requests that it was rendering
    stories: tuple[Story, ...]
    back_s: float | None  #: from the kill to the hello of the process that took its place

    @property
    def moved(self) -> list[Story]:
        """Those that it was rendering and that were tried again."""
        return [story for story in self.stories if story.id in self.on_it and story.retry is not None]


@dataclass(frozen=True, kw_only=True)
class WorkerActs:
    watched: Story
    cancellation: Cancellation
    crash: Crash
    frames: tuple[Frame, ...] = field(default=())

    @property
    def stories(self) -> list[Story]:
        return [self.watched, *self.crash.stories]


def play_worker_acts(settings: Settings, run: str, observer: Observer, sender: Sender, console: Console) -> WorkerActs:
    """Raises :class:`StepFailedError` where nothing renders that could be cancelled or killed, and what sending raises."""
    stage = _Stage(settings, run, observer, sender, console)
    watched = stage.request("watched", 0, Way.GATEWAY, "acme", Tier.ENTERPRISE, WATCHED_STEPS)
    with PreviewWatch(observer, sender, watched) as watch, stage.live(watch.frames):
        stage.send(watched)
        cancellation = _cancel_one(stage)
        stage.await_ends([watched])
    with stage.live([]):
        crash = _kill_one(stage)
    return WorkerActs(watched=stage.story(watched), frames=tuple(watch.frames), cancellation=cancellation, crash=crash)


class _Stage:
    """What every act needs."""

    def __init__(self, settings: Settings, run: str, observer: Observer, sender: Sender, console: Console) -> None:
        self.settings = settings
        self.observer = observer
        self.store: ObjectStore = open_store(settings)
        self._run = run
        self._sender = sender
        self._console = console
        self._ids: set[str] = set()

    def request(self, name: str, number: int, way: Way, tenant: str, tier: Tier, steps: int) -> Planned:
        request_id, extras = f"{self._run}-{name}-{number}", {"steps": steps, "allow_degradation": False}
        return good_request(request_id, tenant, tier, way, ServiceClass.REALTIME, PROMPTS[number % len(PROMPTS)], extras)

    def send(self, planned: Planned) -> None:
        self._ids.add(planned.request_id or "")
        reply = self._sender.send(planned)
        if reply is not None and reply.status >= 400:
            raise StepFailedError(f"the gateway refused {planned.request_id}: {reply.status} {reply.message}")

    def cancel(self, planned: Planned) -> int:
        return self._sender.cancel(planned).status_code

    def say(self, line: str) -> None:
        self._console.print(f"   {line}", highlight=False, markup=False)

    def live(self, frames: list[Frame]) -> AbstractContextManager[None]:
        started = time.monotonic()

        def headline() -> str:
            return f"{time.monotonic() - started:5.1f} s"

        def view() -> RenderableType:
            return self.observer.ask(lambda seen: acts_view(seen, frozenset(self._ids), frames, headline()))

        return shown(self._console, view, lambda: self.observer.ask(lambda seen: plain_line(seen, frozenset(self._ids), headline())))

    def await_begin(self, requests: list[Planned]) -> StatusEvent:
        """The newest event of the first of them that renders and says how far it is."""

        def rendering(seen: Seen) -> StatusEvent | None:
            newest = (seen.newest(planned.request_id or "") for planned in requests)
            return next((event for event in newest if event is not None and event.progress is not None), None)

        def settled(seen: Seen) -> bool:
            return rendering(seen) is not None or all(seen.terminal(planned.request_id or "") for planned in requests)

        self.observer.wait(settled, BEGIN_TIMEOUT_S)
        found = self.observer.ask(rendering)
        if found is None:
            names = ", ".join(planned.request_id or "" for planned in requests)
            raise StepFailedError(f"none of {names} was seen rendering within {BEGIN_TIMEOUT_S:.0f} s; see `atelier why ID`")
        return found

    def await_ends(self, requests: list[Planned]) -> bool:
        """Whether all are over in time; which is not is for the judge to say."""
        return self.observer.wait(lambda seen: all(seen.terminal(planned.request_id or "") for planned in requests), END_TIMEOUT_S)

    def story(self, planned: Planned) -> Story:
        events = self.observer.ask(lambda seen: tuple(seen.events.get(planned.request_id or "", ())))
        verdict = self.observer.ask(lambda seen: judge_good(planned, seen, self.store))
        return Story(planned=planned, events=events, verdict=verdict)


def acts_view(seen: Seen, request_ids: frozenset[str], frames: list[Frame], headline: str) -> RenderableType:
    events = newest_events(seen, request_ids)
    parts: list[RenderableType] = [Text(headline, "dim"), states_line(events, len(seen.dead_letters))]
    if frames:
        parts += [Text(f"{frames[-1].request_id}: step {frames[-1].step} of {frames[-1].steps}", "bold"), as_text(frames[-1])]
    return Group(*parts, workers_table(list(seen.workers.values())))


def _cancel_one(stage: _Stage) -> Cancellation:
    planned = stage.request("cancelled", 1, Way.GATEWAY, "globex", Tier.PRO, CANCELLED_STEPS)
    stage.send(planned)
    begun = stage.await_begin([planned])
    answered = stage.cancel(planned)
    stage.await_ends([planned])
    lease_id = stage.observer.ask(lambda seen: _lease_of(seen, planned))

    def freed(seen: Seen) -> bool:
        return lease_id in seen.renders and seen.renders[lease_id].freed_at is not None

    stage.observer.wait(freed, BEGIN_TIMEOUT_S)
    made = Cancellation(story=stage.story(planned), answered=answered, render=stage.observer.ask(lambda seen: seen.renders.get(lease_id)))
    stage.say(f"cancelled {planned.request_id} at step {begun.progress.step if begun.progress else 0} of {CANCELLED_STEPS}")
    return made


def _lease_of(seen: Seen, planned: Planned) -> str:
    """The lease of its last dispatch; empty where it had none."""
    leases = [event.trace["lease_id"] for event in seen.events.get(planned.request_id or "", ()) if "lease_id" in event.trace]
    return str(leases[-1]) if leases else ""


def _kill_one(stage: _Stage) -> Crash:
    tenants = (("hooli", Tier.PRO), ("acme", Tier.ENTERPRISE))
    requests = [stage.request("crash", number, Way.KAFKA, *tenants[number % len(tenants)], KILLED_STEPS) for number in range(ON_THEIR_WAY)]
    for planned in requests:
        stage.send(planned)
    victim = stage.await_begin(requests).worker_id or ""
    pid = process_of(stage.settings, victim)
    killed_at = time.time()
    os.kill(pid, signal.SIGKILL)
    stage.say(f"killed {victim} (pid {pid}) with -9 in the middle of a render")
    stage.await_ends(requests)
    back_s = _await_back(stage, victim, killed_at)
    stories = tuple(stage.story(planned) for planned in requests)
    on_it = frozenset(story.id for story in stories if was_on(story, victim, killed_at))
    return Crash(worker_id=victim, pid=pid, at=killed_at, on_it=on_it, stories=stories, back_s=back_s)


def process_of(settings: Settings, worker_id: str) -> int:
    """The worker's process. Raises :class:`StepFailedError` where it is none that this installation supervises."""
    try:
        found = Supervisor(settings).info().get(worker_id)
    except OSError as error:
        raise StepFailedError(f"no supervisor knows the process of {worker_id}: {error}; see `atelier status`") from error
    if found is None or not found.pid:
        raise StepFailedError(f"{worker_id} has no process here that could be killed; see `atelier status`")
    return found.pid


def was_on(story: Story, worker_id: str, at: float) -> bool:
    """Whether the last that had happened to it by then was that the worker rendered it."""
    before = [event for event in story.events if event.at <= at]
    return bool(before) and before[-1].state is State.PROCESSING and before[-1].worker_id == worker_id


def _await_back(stage: _Stage, worker_id: str, since: float) -> float | None:
    def said_hello(seen: Seen) -> bool:
        return seen.workers[worker_id].started_at > since

    if not stage.observer.wait(said_hello, BEGIN_TIMEOUT_S):
        return None
    return stage.observer.ask(lambda seen: seen.workers[worker_id].started_at) - since
