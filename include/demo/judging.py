"""Did each request get what it must? The images are fetched and decoded; nobody's word is taken for it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from include.contracts.dead_letters import DeadLetter
from include.contracts.events import ImageResult, State, StatusEvent
from include.demo.observer import Seen
from include.demo.planned import Planned, Way
from include.demo.sending import Outbox, Reply
from include.storage import ObjectStore, StoreError


@dataclass(frozen=True, kw_only=True)
class Verdict:
    planned: Planned
    ok: bool
    outcome: str  #: what became of it, in a word or two
    detail: str = ""  #: reason given, or what is wrong
    event: StatusEvent | None = None  #: the newest, of a request that the router knows
    images: tuple[bytes, ...] = ()


def judge_all(plan: Sequence[Planned], outbox: Outbox, seen: Seen, store: ObjectStore) -> list[Verdict]:
    return [
        judge_good(planned, seen, store) if planned.good else judge_bad(planned, outbox.replies.get(number), seen)
        for number, planned in enumerate(plan)
    ]


def is_settled(planned: Planned, reply: Reply | None, seen: Seen) -> bool:
    """Whether nothing more is to come for it."""
    if planned.good or (planned.way is Way.GATEWAY and (reply is None or reply.status < 400)):
        return planned.request_id is not None and seen.terminal(planned.request_id) is not None
    return planned.way is Way.GATEWAY or dead_letter_of(planned, seen) is not None


def judge_good(planned: Planned, seen: Seen, store: ObjectStore) -> Verdict:
    event = seen.newest(planned.request_id or "")
    if event is None:
        return Verdict(planned=planned, ok=False, outcome="lost", detail="no event was seen")
    if event.state is not State.COMPLETED:
        return Verdict(planned=planned, ok=False, outcome=event.state, detail=event.reason.message if event.reason else "", event=event)
    wanted = planned.fields.get("images", 1)
    if len(event.images) != wanted:
        return Verdict(
            planned=planned, ok=False, outcome=event.state, detail=f"{len(event.images)} images instead of {wanted}", event=event
        )
    images, faults = [], []
    for image in event.images:
        data, fault = fetch(image, store)
        images.append(data)
        faults.append(fault)
    wrong = "; ".join(fault for fault in faults if fault)
    return Verdict(planned=planned, ok=not wrong, outcome=event.state, detail=wrong, event=event, images=tuple(images))


def fetch(image: ImageResult, store: ObjectStore) -> tuple[bytes, str]:
    """The stored bytes, and what is wrong with them; empty where nothing is."""
    try:
        data = store.get(image.key)
    except StoreError as error:
        return b"", str(error)
    if hashlib.sha256(data).hexdigest() != image.sha256:
        return data, f"{image.key}: the digest is not the one of the event"
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            size = picture.size
    except (OSError, SyntaxError, ValueError) as error:
        return data, f"{image.key}: does not decode: {error}"
    return data, "" if size == (image.width, image.height) else f"{image.key}: is {size[0]}x{size[1]}, the event says otherwise"


def dead_letter_of(planned: Planned, seen: Seen) -> DeadLetter | None:
    """The dead letter with exactly the bytes that were sent, preferably with the reason that was expected."""
    same = [letter for letter in seen.dead_letters if letter.original_bytes() == planned.value]
    return next((letter for letter in same if letter.reason.code is planned.expected), same[0] if same else None)


def judge_bad(planned: Planned, reply: Reply | None, seen: Seen) -> Verdict:
    if reply is not None and reply.status >= 400:
        ok = reply.code == planned.expected
        return Verdict(planned=planned, ok=ok, outcome=f"HTTP {reply.status}", detail=f"{reply.code}: {reply.message}")
    letter = dead_letter_of(planned, seen)
    event = seen.newest(planned.request_id) if planned.request_id else None
    if event is not None and event.state is State.REFUSED and event.reason is not None and (letter or planned.way is Way.GATEWAY):
        codes = {event.reason.code, *([letter.reason.code] if letter else [])}
        outcome = "Refused, dead letter" if letter else "Refused"
        return Verdict(
            planned=planned,
            ok=codes == {planned.expected},
            outcome=outcome,
            detail=f"{event.reason.code}: {event.reason.message}",
            event=event,
        )
    if letter is not None:
        ok = letter.reason.code is planned.expected and event is None
        return Verdict(planned=planned, ok=ok, outcome="dead letter", detail=f"{letter.reason.code}: {letter.reason.message}", event=event)
    outcome = event.state if event is not None else "lost"
    return Verdict(planned=planned, ok=False, outcome=outcome, detail="no dead letter has the bytes that were sent", event=event)
