"""What everyone may know about a request: its state changes and the trace of the decisions behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from include.contracts.base import Identifier, Label, Message, Name, Part, Seconds, Timestamp
from include.contracts.errors import Reason
from include.contracts.requests import MAX_IMAGES, Seed, ServiceClass, Tier

#: Of steps and pixels that a worker may report: what is larger is no count, and would not fit the tables that events end up in.
MAX_COUNT = 1_000_000


class State(Label):
    """A request's life: Queued → Processing → one terminal state, with Retrying leading back to Queued."""

    QUEUED = "Queued"
    PROCESSING = "Processing"
    RETRYING = "Retrying"
    COMPLETED = "Completed"
    FAILED = "Failed"
    REFUSED = "Refused"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.REFUSED, State.CANCELLED, State.EXPIRED})


class Lane(Label):
    """Strict priority, from first served to last."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Admission(Label):
    """What became of a request at the door; few values, so that each can be a metric label."""

    ADMITTED = "admitted"
    DEGRADED = "admitted_degraded"  #: at less quality than asked for, as its events say
    DEFERRED = "deferred"  #: batch that waited in Kafka until its lane had room
    RATE_LIMITED = "rate_limited"  #: refused by its tenant's quota
    OVERLOADED = "overloaded"  #: refused because its lane is full
    REFUSED = "refused"  #: refused for what it is: malformed, unknown, too late, a repeat


class ImageResult(Part):
    """One stored image."""

    index: int = Field(ge=0, lt=MAX_IMAGES, description="Position among the request's images.")
    key: str = Field(max_length=512, description="Object key in the store.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Digest of the stored bytes.")
    size_bytes: int = Field(ge=1, le=2**40, description="Length of the stored bytes.")
    width: int = Field(ge=1, le=MAX_COUNT, description="Pixels.")
    height: int = Field(ge=1, le=MAX_COUNT, description="Pixels.")
    seed: Seed = Field(description="Seed that reproduces it.")
    media_type: str = Field(description="image/png, image/jpeg or image/webp.")
    flags: tuple[str, ...] = Field((), max_length=16, description="What the safety checker saw in it; empty means nothing, or no checker.")


class Usage(Part):
    """What a completion cost."""

    gpu_seconds: Seconds = Field(description="Device time this request used, its share of a micro-batch.")
    render_s: Seconds = Field(description="Wall time from the start of the render to the stored images.")
    steps: int = Field(ge=0, le=MAX_COUNT, description="Denoising steps run.")
    backend: str = Field("torch-eager", description="What ran the network.")
    device: str = Field("cpu", description="Device it ran on.")
    cache_hits: tuple[str, ...] = Field((), max_length=8, description="Caches that saved work: prompt, result, near, parked, attempt.")
    notes: tuple[str, ...] = Field((), max_length=16, description="What was out of the ordinary, in words; such as why it rendered alone.")


class Progress(Part):
    step: int = Field(ge=0, le=MAX_COUNT)
    steps: int = Field(ge=1, le=MAX_COUNT)
    previews: tuple[str, ...] = Field((), max_length=256, description="Object keys of previews that were just written.")


class Estimate(Part):
    """When it is expected to start, counted from the event, with the band that four of five are expected to fall into."""

    wait_s: Seconds
    low_s: Seconds
    high_s: Seconds


class StatusEvent(Message):
    """One state change. ``event_id`` is the same when a restored job says it again, so consumers drop repeats by it."""

    event_id: str = Field(max_length=300, description="request_id, state, attempt and step; equal for repeats of one event.")
    request_id: Identifier
    tenant: Name
    state: State
    at: Timestamp = Field(description="When it happened.")
    tier: Tier | None = None
    service_class: ServiceClass | None = None
    lane: Lane | None = None
    attempt: int = Field(0, ge=0, description="Dispatches so far.")
    position: int | None = Field(None, ge=1, description="Place in its lane, 1 is next.")
    estimate: Estimate | None = Field(None, description="Of the wait, while it is queued.")
    worker_id: Identifier | None = None
    pool: Name | None = None
    model: Name | None = None
    model_version: str | None = None
    progress: Progress | None = None
    reason: Reason | None = Field(None, description="Why it was refused, retried, failed, cancelled or expired.")
    images: tuple[ImageResult, ...] = ()
    usage: Usage | None = None
    waited_s: Seconds | None = Field(None, description="From acceptance to the dispatch that led to the terminal state.")
    degraded: tuple[str, ...] = Field((), description="What was reduced, in words; empty means nothing.")
    trace: dict[str, Any] = Field(default_factory=dict, description="The decision behind this change, for `atelier why`.")
    trace_id: Identifier | None = None


class SharesEvent(Message):
    """The guaranteed shares of the lanes moved."""

    kind: Literal["shares"] = "shares"
    event_id: str = Field(max_length=300, description="Equal for repeats of one event.")
    cell: Name
    at: Timestamp
    before: dict[Lane, float] = Field(description="Share of device time guaranteed to each lane.")
    after: dict[Lane, float]
    reason: str = Field(max_length=500, description="What was measured that moved them.")


class ScaleEvent(Message):
    """A pool is asked to become larger or smaller."""

    kind: Literal["scale"] = "scale"
    event_id: str = Field(max_length=300, description="Equal for repeats of one event.")
    cell: Name
    pool: Name
    at: Timestamp
    before: int = Field(ge=0, description="Workers that run or start.")
    after: int = Field(ge=0, description="Workers that were asked for.")
    reason: str = Field(max_length=500, description="What asked for them.")
    waiting_s: Seconds = Field(description="Predicted device seconds that wait for this pool.")
    rate: float = Field(ge=0, description="Device seconds a second that arrive for it.")
    utilisation: float | None = Field(None, ge=0, le=1, description="Share of their time that its workers rendered lately.")


def event_id(request_id: str, state: State, attempt: int, step: int = 0) -> str:
    return f"{request_id}:{state}:{attempt}:{step}"
