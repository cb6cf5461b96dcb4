"""Why a request went as it did: its events and dead letters as steps that a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from include.client.reader import Record, parse_event
from include.client.scanning import Progress, TopicScan, no_progress, parse_letter, request_id_of
from include.client.why_words import Story, told
from include.config import Settings
from include.contracts import topics
from include.contracts.base import dump
from include.contracts.dead_letters import DeadLetter
from include.contracts.errors import ReasonCode
from include.contracts.events import State, StatusEvent

#: Reasons that speak of a second message with an id, not of how the request of that id went.
ABOUT_THE_ID = frozenset({ReasonCode.DUPLICATE_ID, ReasonCode.ID_TAKEN})
_REDRIVEN = re.compile(r"(.+)-r[1-9][0-9]*")
_IDENTITY = frozenset({"schema_version", "event_id", "request_id", "tenant"})
_KEPT_NEAR = 10_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that happened to a request."""

    at_s: float  #: seconds since its first step
    title: str
    lines: tuple[str, ...]  #: what was decided and why, a sentence each
    facts: dict[str, Any] = field(default_factory=dict)  #: the event or the letter itself, without what all steps share


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The decision trace of one request."""

    request_id: str
    tenant: str | None
    state: State | None  #: the newest; None where there are dead letters but no events
    submitted_at: float  #: the first step, in seconds since 1970
    took_s: float  #: from the first step to the newest event
    steps: tuple[Step, ...]
    dead_letters: int = 0
    redriven_from: str | None = None  #: the request it was made from by ``atelier redrive``
    redriven_as: tuple[str, ...] = ()  #: the requests that were made from it

    @property
    def over(self) -> bool:
        return self.state is not None and self.state.terminal


def origin_of(request_id: str) -> str:
    """The request that a redriven one goes back to; itself where it was not redriven."""
    found = _REDRIVEN.fullmatch(request_id)
    return found[1] if found else request_id


def explain(events: Sequence[StatusEvent], letters: Sequence[DeadLetter] = (), family: Iterable[str] = ()) -> Explanation:
    """The events and letters of one request in words, oldest first; repeats of an event are dropped.

    :param family: ids of other requests that may come from the same original, as ``atelier redrive`` names them

    Raises :class:`ValueError` where there is neither an event nor a letter.
    """
    seen: dict[str, StatusEvent] = {}
    for event in events:
        seen.setdefault(event.event_id, event)
    events = sorted(seen.values(), key=lambda event: event.at)
    if not events and not letters:
        raise ValueError("nothing to explain: there is neither an event nor a dead letter")
    start = min([event.at for event in events] + [letter.at for letter in letters])
    request_id = events[0].request_id if events else letters[0].request_id or ""
    steps = [*_event_steps(events, start), *(_letter_step(letter, events, start) for letter in letters)]
    later = tuple(sorted(name for name in family if name != request_id and origin_of(name) == request_id))
    return Explanation(
        request_id=request_id,
        tenant=events[0].tenant if events else letters[0].tenant,
        state=events[-1].state if events else None,
        submitted_at=start,
        took_s=round((events[-1].at if events else letters[-1].at) - start, 6),
        steps=tuple(sorted(steps, key=lambda step: step.at_s)),
        dead_letters=len(letters),
        redriven_from=origin if (origin := origin_of(request_id)) in family and origin != request_id else None,
        redriven_as=later,
    )


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """JSON types, for machines."""
    steps = [{"at_s": round(step.at_s, 3), "title": step.title, "lines": list(step.lines), **step.facts} for step in explanation.steps]
    names = ("request_id", "tenant", "state", "submitted_at", "took_s", "dead_letters", "redriven_from", "redriven_as")
    return {**{name: getattr(explanation, name) for name in names}, "steps": steps}


def near_ids(wanted: str, known: Iterable[str], at_most: int = 5) -> list[str]:
    """Those of ``known`` that somebody may have meant: equal but for case first, then by the length of the common prefix."""
    folded = wanted.lower()

    def likeness(name: str) -> tuple[bool, int, float, str]:
        other = name.lower()
        return other == folded, _shared_prefix(other, folded), SequenceMatcher(None, other, folded).ratio(), name

    return sorted((name for name in known if _is_near(wanted, name)), key=likeness, reverse=True)[:at_most]


def _shared_prefix(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _is_near(wanted: str, name: str) -> bool:
    """Cheap, as it is asked of every id on the topic: the first half and at least three characters are the same but for case."""
    shared = max(3, len(wanted) // 2)
    return name[:shared].lower() == wanted[:shared].lower()


def _event_steps(events: Sequence[StatusEvent], start: float) -> list[Step]:
    """One step an event; reports of progress in one attempt are one step."""
    story, steps = Story(), list[Step]()
    for number, event in enumerate(events):
        if _goes_on(event, events[number + 1 : number + 2]):
            continue
        title, lines = told(event, story)
        facts = {key: value for key, value in dump(event).items() if key not in _IDENTITY}
        steps.append(Step(at_s=event.at - start, title=title, lines=tuple(lines), facts=facts))
    return steps


def _goes_on(event: StatusEvent, following: Sequence[StatusEvent]) -> bool:
    """Whether it is progress that the next event says more of."""
    return event.progress is not None and any(after.progress is not None and after.attempt == event.attempt for after in following)


def _letter_step(letter: DeadLetter, events: Sequence[StatusEvent], start: float) -> Step:
    option = " --new-id" if letter.reason.code in ABOUT_THE_ID else ""
    lines = [f"kept in {topics.DEAD_LETTERS} with its original bytes; to send it again: atelier redrive --id {letter.request_id}{option}"]
    if all(event.reason != letter.reason for event in events):
        lines.insert(0, f"{letter.reason.code}: {letter.reason.message}")
    facts = {key: value for key, value in dump(letter).items() if key not in _IDENTITY | {"original"}}
    return Step(at_s=letter.at - start, title="Dead letter", lines=tuple(lines), facts=facts)


@dataclass(kw_only=True)
class History:
    """What the topics hold of one request."""

    request_id: str
    events: list[StatusEvent] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    family: set[str] = field(default_factory=set)  #: it and what was redriven from or into it
    near: set[str] = field(default_factory=set)  #: ids that begin alike
    oldest_at: float | None = None  #: how far back the events go, in seconds since 1970
    next_offsets: dict[int, int] = field(default_factory=dict)  #: of the events, by partition

    def __bool__(self) -> bool:
        return bool(self.events or self.letters)

    @property
    def over(self) -> bool:
        """Whether nothing more is to come; of what has dead letters alone, no event ever told."""
        return self.explain().over if self.events else bool(self.letters)

    def explain(self) -> Explanation:
        return explain(self.events, self.letters, self.family)

    def take_event(self, record: Record) -> bool:
        """Whether the record is an event of this request."""
        name = request_id_of(record.value)
        if name is None:
            return False
        if origin_of(name) == origin_of(self.request_id):
            self.family.add(name)
        if name == self.request_id:
            return self._keep(record)
        if _is_near(self.request_id, name) and len(self.near) < _KEPT_NEAR:
            self.near.add(name)
        return False

    def take_letter(self, record: Record) -> None:
        if request_id_of(record.value) == self.request_id and (letter := parse_letter(record)) is not None:
            self.letters.append(letter)

    def _keep(self, record: Record) -> bool:
        event = parse_event(record)
        if event is not None:
            self.events.append(event)
        return event is not None


def read_history(settings: Settings, request_id: str, on_progress: Progress = no_progress) -> History:
    """Reads the events and the dead letters, oldest to newest. Raises :class:`BrokerUnavailableError`."""
    history = History(request_id=request_id)
    events = TopicScan(settings, topics.EVENTS, on_progress)
    for record in events:
        history.take_event(record)
    history.oldest_at, history.next_offsets = events.oldest_at, events.ends
    for record in TopicScan(settings, topics.DEAD_LETTERS):
        history.take_letter(record)
    return history
