"""What is written fast must be what pydantic writes."""

from __future__ import annotations

import json

import pytest
from pydantic_core import PydanticSerializationError

from include.contracts.base import Part
from include.contracts.dead_letters import DeadLetter
from include.contracts.dispatch import BatchKey, Lease, ModelRef, RenderTask, Revoke
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Admission, Estimate, Lane, SharesEvent, State, StatusEvent
from include.contracts.requests import ImageFormat, Tier
from include.contracts.wire import ascii_json

MODEL = ModelRef(name="emoji", version="3", digest="0" * 64, source="models:/emoji/3")


def task(prompt: str) -> RenderTask:
    return RenderTask(
        request_id="r-1",
        tenant="acme",
        prompt=prompt,
        width=64,
        height=32,
        steps=8,
        guidance=2.5,
        seed=2**63 - 1,
        images=2,
        image_format=ImageFormat.WEBP,
        upscale_to=(128, 64),
    )


def lease(prompt: str = "a red heart") -> Lease:
    return Lease(
        lease_id="lease-1",
        cell="main",
        pool="cpu",
        worker_id="w-0",
        incarnation="i-1",
        attempt=1,
        issued_at=1795857237.3312345,
        expires_at=1e11,
        lease_s=30.0,
        model=MODEL,
        batch_key=BatchKey(model=MODEL.key, width=64, height=32, steps=8, guided=True),
        lane=Lane.HIGH,
        tasks=(task(prompt), task("another")),
    )


def event(words: str = "a deadline passed") -> StatusEvent:
    return StatusEvent(
        event_id="r-1:Queued:0:0",
        request_id="r-1",
        tenant="acme",
        state=State.QUEUED,
        at=0.1 + 0.2,
        tier=Tier.PRO,
        lane=Lane.LOW,
        estimate=Estimate(wait_s=1e-7, low_s=0.0, high_s=123456789.0),
        reason=Reason(code=ReasonCode.OVERLOADED, message=words, retry_after_s=2.0),
        trace={"outcome": Admission.DEGRADED, "band": [0.25, 1.5], "nothing": None, "nested": {"deep": True}},
    )


SHARES = SharesEvent(event_id="s", cell="main", at=1.0, before={Lane.HIGH: 0.5}, after={Lane.HIGH: 0.75}, reason="waits")


@pytest.mark.parametrize(
    "part",
    [
        lease(),
        event(),
        SHARES,
        task("x"),
        Revoke(lease_id="lease-1", worker_id="w-0", pool="cpu", request_ids=("r-1",)),
        DeadLetter(source_topic="requests.batch", at=1.0, reason=Reason(code=ReasonCode.INVALID_MESSAGE, message="bad"), original="/w=="),
    ],
    ids=lambda part: type(part).__name__,
)
def test_it_is_what_pydantic_writes(part: Part) -> None:
    assert json.loads(ascii_json(part)) == json.loads(part.model_dump_json(exclude_none=True))
    assert type(part).model_validate_json(ascii_json(part)) == part


@pytest.mark.parametrize("words", ["ein rotes Herz, groß", "心", "\U0001f600", 'quotes " and \\', "\u2028"])
def test_whatever_the_words_it_is_ascii(words: str) -> None:
    for part in (lease(words), event(words)):
        text = ascii_json(part)
        assert text.isascii() and "\x1e" not in text and "\x1f" not in text
        assert type(part).model_validate_json(text) == part


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(PydanticSerializationError):
        ascii_json(event().model_copy(update={"trace": {"a set": object()}}))
