"""Events of a request, as short as tests want them."""

from __future__ import annotations

from typing import Any

from include.client.why import Explanation
from include.contracts.dead_letters import DeadLetter, encode_original
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import ImageResult, Lane, Progress, State, StatusEvent, Usage, event_id
from include.contracts.requests import ServiceClass, Tier

START = 1_790_000_000.0
LOST = Reason(code=ReasonCode.WORKER_LOST, message="worker worker-0 started anew while it held the lease")
FULL = Reason(code=ReasonCode.OVERLOADED, message="the high lane is full", retry_after_s=12.0)
DISPATCH = {
    "lease_id": "lease-1",
    "why_worker": "idle, warm",
    "batch_key": "emoji/3|32x32|4|cfg",
    "batch_size": 4,
    "batch_bound": "max_batch",
    "shared_with": ["r0"],
}


def event(state: State, after: float = 0.0, *, name: str = "r1", attempt: int = 0, **fields: Any) -> StatusEvent:
    step = fields["progress"].step if "progress" in fields else 0
    common = {"tenant": "acme", "tier": Tier.PRO, "service_class": ServiceClass.REALTIME, "lane": Lane.HIGH, "model": "emoji"}
    identity = event_id(name, state, 0 if state.terminal else attempt, step)
    return StatusEvent(event_id=identity, request_id=name, state=state, at=START + after, attempt=attempt, **{**common, **fields})


def queued(after: float = 0.0, **fields: Any) -> StatusEvent:
    return event(State.QUEUED, after, **{"trace": {"predicted_gpu_s": 0.5}, **fields})


def dispatched(after: float, attempt: int = 1, **fields: Any) -> StatusEvent:
    known = {"worker_id": "worker-0", "pool": "standard", "model_version": "3", "waited_s": after, "trace": DISPATCH}
    return event(State.PROCESSING, after, attempt=attempt, **{**known, **fields})


def progress(after: float, step: int, attempt: int = 1) -> StatusEvent:
    return event(State.PROCESSING, after, attempt=attempt, worker_id="worker-0", progress=Progress(step=step, steps=8))


def completed(after: float, **fields: Any) -> StatusEvent:
    image = ImageResult(
        index=0, key="images/acme/r1/0.png", sha256="0" * 64, size_bytes=9, width=32, height=32, seed=7, media_type="image/png"
    )
    usage = Usage(gpu_seconds=0.6, render_s=1.25, steps=8)
    known = {"usage": usage, "images": (image,), "waited_s": 1.0, "model_version": "3", "trace": {"cached": False, "failures": 0}}
    return event(State.COMPLETED, after, **{**known, **fields})


def letter(reason: Reason, after: float = 0.0, **fields: Any) -> DeadLetter:
    known = {"source_topic": "requests.realtime", "request_id": "r1", "tenant": "acme", "original": encode_original(b"{}")}
    return DeadLetter(at=START + after, reason=reason, **{**known, **fields})


def titles(explanation: Explanation) -> list[str]:
    return [step.title for step in explanation.steps]


def text(explanation: Explanation) -> str:
    return "\n".join(line for step in explanation.steps for line in step.lines)
