"""Dead letters: which there are, which can be sent again, and under which id."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from math import isfinite
from typing import Any

from pydantic import ValidationError

from include.client.reader import Record, parse_event
from include.client.scanning import Progress, TopicScan, no_progress, parse_letter, request_id_of
from include.client.why import ABOUT_THE_ID, origin_of
from include.config import Settings
from include.contracts import topics
from include.contracts.dead_letters import DeadLetter
from include.contracts.errors import ReasonCode, refusal_of
from include.contracts.events import State, StatusEvent
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest

REQUEST_TOPICS = frozenset({topics.REALTIME, topics.BATCH})
#: How long the router remembers an accepted id.
ID_WINDOW_S = 24 * 3600.0
_MAX_ID = 128
_NUMBER = re.compile(r".+-r([1-9][0-9]*)")


class Action(StrEnum):
    """What becomes of a letter that was asked for."""

    SEND = "send"
    NOTHING = "nothing to do"  #: it was sent before, or its request goes on without it
    IMPOSSIBLE = "can't be sent"
    NOT_A_REQUEST = "never sent"  #: of the topics that workers and operators write


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which letters; what is empty selects nothing away."""

    ids: frozenset[str] = frozenset()
    tenant: str | None = None
    reason: ReasonCode | None = None
    source: str | None = None
    since: float | None = None  #: seconds since 1970

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.request_id in self.ids)
            and self.tenant in (None, letter.tenant)
            and self.reason in (None, letter.reason.code)
            and self.source in (None, letter.source_topic)
            and (self.since is None or letter.at >= self.since)
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A letter as it lies on the topic."""

    letter: DeadLetter
    key: str  #: the same for the same letter, and for no other
    size: int  #: bytes of the original that were kept
    newest: bool = True  #: no later letter of the same request is there


@dataclass(frozen=True, kw_only=True)
class Redrive:
    """One letter and what is to be done with it."""

    found: Found
    action: Action
    note: str  #: why, or under which id
    request_id: str | None = None  #: that it is sent under
    value: bytes = b""

    @property
    def renamed(self) -> bool:
        return self.request_id != self.found.letter.request_id


@dataclass(kw_only=True)
class IdUse:
    """What the events say of one request id."""

    tenant: str
    state: State
    accepted_at: float | None = None  #: of its newest life; None where it was only ever refused

    def take(self, event: StatusEvent) -> None:
        self.state, self.tenant = event.state, event.tenant
        begins = event.state is State.QUEUED and not event.attempt
        if begins or (self.accepted_at is None and event.state is not State.REFUSED):
            self.accepted_at = event.at


@dataclass(kw_only=True)
class Letters:
    """The letters asked for, the oldest first."""

    selection: Selection
    found: list[Found] = field(default_factory=list)
    unreadable: int = 0  #: messages of the topic that are no dead letters of this release
    _newest: dict[tuple[str | None, str], str] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        letter = parse_letter(record)
        if letter is None:
            self.unreadable += 1
            return
        key = sha256(f"{record.partition}:{record.offset}:".encode() + (record.value or b"")).hexdigest()[:32]
        if letter.request_id is not None and letter.source_topic in REQUEST_TOPICS and letter.reason.code not in ABOUT_THE_ID:
            self._newest[letter.tenant, letter.request_id] = key
        if self.selection.takes(letter):
            size = len(letter.original_bytes() or b"")
            # What is too large can't be sent anyway; so a topic of large letters still fits into memory.
            kept = letter if size <= MAX_MESSAGE_BYTES else letter.model_copy(update={"original": None})
            self.found.append(Found(letter=kept, key=key, size=size))

    def all(self) -> list[Found]:
        """Each with whether it is the newest of its request."""
        return [self._marked(found) for found in sorted(self.found, key=lambda found: found.letter.at)]

    def _marked(self, found: Found) -> Found:
        newest = self._newest.get((found.letter.tenant, found.letter.request_id or ""), found.key)
        about_the_id = found.letter.reason.code in ABOUT_THE_ID
        return found if about_the_id or newest == found.key else Found(letter=found.letter, key=found.key, size=found.size, newest=False)


def read_letters(settings: Settings, selection: Selection, on_progress: Progress = no_progress) -> Letters:
    """Raises :class:`BrokerUnavailableError`."""
    letters = Letters(selection=selection)
    for record in TopicScan(settings, topics.DEAD_LETTERS, on_progress):
        letters.take(record)
    return letters


def read_uses(settings: Settings, ids: Iterable[str], on_progress: Progress = no_progress) -> dict[str, IdUse]:
    """What the events say of these ids and of the ids they were redriven as. Raises :class:`BrokerUnavailableError`."""
    origins = {origin_of(name) for name in ids}
    uses: dict[str, IdUse] = {}
    for record in TopicScan(settings, topics.EVENTS, on_progress) if origins else ():
        name = request_id_of(record.value)
        if name is not None and origin_of(name) in origins and (event := parse_event(record)) is not None:
            uses.setdefault(name, IdUse(tenant=event.tenant, state=event.state)).take(event)
    return uses


class Planner:
    """Decides letter by letter; a pure function of what it was given.

    A refused id is free again, so its letter goes back byte for byte. An accepted id belongs to its first run for the router's window of
    idempotency: sent again under it, a failed request would be answered as a repeat. It gets a new id (``ID-r1``, ``ID-r2``, …)
    and, where it had none, the first id as its ``trace_id``; every other field stays.

    :param uses: of the letters' ids and of those they were redriven as
    :param sent: by letter's key, the id under which it was sent before
    :param new_ids: give every letter a new id, also those of ids that are free or were sent twice
    :param again: also what was sent before
    """

    def __init__(
        self, uses: Mapping[str, IdUse], sent: Mapping[str, str], *, now: float, new_ids: bool = False, again: bool = False
    ) -> None:
        self._uses = uses
        self._sent = sent
        self._now = now
        self._new_ids = new_ids
        self._again = again
        self._numbers: dict[str, int] = {}
        self._later: defaultdict[str, list[str]] = defaultdict(list)
        for name in (*uses, *sent.values()):
            self._count(name)
        for name in uses:
            self._later[origin_of(name)].append(name)

    def plan(self, found: Sequence[Found]) -> list[Redrive]:
        return [self._decide(one) for one in found]

    def _decide(self, found: Found) -> Redrive:
        letter = found.letter
        if letter.source_topic not in REQUEST_TOPICS:
            return Redrive(found=found, action=Action.NOT_A_REQUEST, note=f"it came from {letter.source_topic}; its sender says it anew")
        done = self._done(found)
        if done is not None:
            return Redrive(found=found, action=Action.NOTHING, note=done)
        original = letter.original_bytes()
        if original is None:
            note = (
                f"its original has {found.size} bytes or more; at most {MAX_MESSAGE_BYTES} are taken" if found.size else "it had no value"
            )
            return Redrive(found=found, action=Action.IMPOSSIBLE, note=note)
        try:
            request = GenerationRequest.from_json(original)
        except ValidationError as error:
            note = f"it would be refused again, mend it and send it: {refusal_of(error).message}"
            return Redrive(found=found, action=Action.IMPOSSIBLE, note=note)
        if request.deadline_at is not None and request.deadline_at <= self._now:
            return Redrive(found=found, action=Action.IMPOSSIBLE, note="its deadline_at has passed; send it with a later one")
        return self._send(found, request, original)

    def _done(self, found: Found) -> str | None:
        """Why there is nothing to do, if so."""
        letter = found.letter
        if not self._again and found.key in self._sent:
            return f"sent before as {self._sent[found.key]}; --again sends it once more"
        if not found.newest:
            return "a newer letter of the same request is there"
        if letter.reason.code is ReasonCode.DUPLICATE_ID and not self._new_ids:
            return "its first request stands; --new-id runs it again under another id"
        return None if letter.request_id is None or self._again else self._gone_on(letter.request_id, letter)

    def _gone_on(self, request_id: str, letter: DeadLetter) -> str | None:
        """Whether its request was sent again by others since, or by a redrive on another machine."""
        use = self._uses.get(request_id)
        if use is not None and use.tenant == letter.tenant and use.accepted_at is not None and use.accepted_at > letter.at:
            return f"it was sent again since and is {use.state}"
        for name in self._later[origin_of(request_id)]:
            if name not in (request_id, origin_of(name)) and (self._uses[name].accepted_at or 0.0) > letter.at:
                return f"redriven since as {name}, which is {self._uses[name].state}; --again sends it once more"
        return None

    def _send(self, found: Found, request: GenerationRequest, original: bytes) -> Redrive:
        name = request.request_id
        why = "asked for" if self._new_ids else self._not_free(name, found.letter)
        if why is None:
            return Redrive(found=found, action=Action.SEND, note="as it is", request_id=name, value=original)
        new = self._next_name(name)
        return Redrive(found=found, action=Action.SEND, note=f"as {new}: {why}", request_id=new, value=renamed(original, new))

    def _not_free(self, name: str, letter: DeadLetter) -> str | None:
        """Why the router would not take this id as a new request, if so."""
        use = self._uses.get(name)
        if letter.reason.code is ReasonCode.ID_TAKEN or (use is not None and use.accepted_at is not None and use.tenant != letter.tenant):
            return "another tenant has its id"
        if use is not None and use.accepted_at is not None and self._now - use.accepted_at < ID_WINDOW_S:
            return f"its first run has the id for {ID_WINDOW_S / 3600:.0f} h"
        if use is None and letter.attempts and self._now - letter.at < ID_WINDOW_S:
            return f"its first run has the id for {ID_WINDOW_S / 3600:.0f} h"
        return None

    def _count(self, name: str) -> None:
        found = _NUMBER.fullmatch(name)
        if found:
            origin = origin_of(name)
            self._numbers[origin] = max(self._numbers.get(origin, 0), int(found[1]))

    def _next_name(self, name: str) -> str:
        self._count(name)
        origin = origin_of(name)
        number = self._numbers[origin] = self._numbers.get(origin, 0) + 1
        new = f"{origin}-r{number}"
        if len(new) <= _MAX_ID:
            return new
        return f"{origin[:100]}-{sha256(origin.encode()).hexdigest()[:12]}-r{number}"


def renamed(original: bytes, request_id: str) -> bytes:
    """The request under another id, traced to its first one. No larger than a message may be, as a valid request's fields are bounded."""
    fields: dict[str, Any] = json.loads(original)
    if fields.get("trace_id") is None:
        fields["trace_id"] = fields["request_id"]
    return json.dumps({**fields, "request_id": request_id}, ensure_ascii=False, separators=(",", ":")).encode()


def since_seconds(text: str, now: float | None = None) -> float:
    """A point in time as seconds since 1970, from a number of seconds ago or from an ISO 8601 time, which is UTC unless it says otherwise.

    Raises :class:`ValueError`.
    """
    try:
        ago = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not isfinite(ago):
        raise ValueError(f"{text} is no number of seconds")
    return (time.time() if now is None else now) - ago
