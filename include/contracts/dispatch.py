"""What the router hands to a worker: a lease on one micro-batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from include.contracts.base import Identifier, Label, Message, Name, ObjectKey, Part, Timestamp
from include.contracts.events import Lane
from include.contracts.requests import MAX_IMAGES, AdapterWeight, Guidance, ImageFormat, Prompt, Seed, Side, Steps, Strength, steps_run


class DispatchKind(Label):
    LEASE = "lease"  #: render this
    REVOKE = "revoke"  #: stop rendering this


class ModelRef(Part):
    """A model version by what it is, not by what it is called today."""

    name: Name = Field(description="Registered model.")
    version: str = Field(max_length=64, description="Version in the registry.")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="Digest of the version's file list; each file is verified against it.")
    source: str = Field(max_length=1024, description="Where the files are, as the registry says.")

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"


class AdapterRef(Part):
    """A LoRA adapter of the model by what it is."""

    model: ModelRef
    weight: AdapterWeight = 1.0

    def __str__(self) -> str:
        return f"{self.model.key}*{self.weight:g}"


class BatchKey(Part):
    """What requests must share to run in one batch. Seed and prompt are deliberately not in it."""

    model: str = Field(description="name/version.")
    width: Side
    height: Side
    steps: Steps
    guided: bool = Field(description="Whether classifier-free guidance doubles the batch.")
    variant: str = Field("", max_length=1000, description="Adapters with their weights, and the strength of image to image.")

    def __str__(self) -> str:
        variant = f"|{self.variant}" if self.variant else ""
        return f"{self.model}|{self.width}x{self.height}|{self.steps}|{'cfg' if self.guided else 'plain'}{variant}"


class RenderTask(Part):
    """One request as the worker needs it: every default filled in."""

    request_id: Identifier
    tenant: Name
    prompt: Prompt
    negative_prompt: Prompt = ""
    width: Side
    height: Side
    steps: Steps
    guidance: Guidance
    seed: Seed = Field(description="Seed of image 0; image i uses seed + i, modulo 2^63.")
    images: int = Field(ge=1, le=MAX_IMAGES)
    image_format: ImageFormat
    upscale_to: tuple[Side, Side] | None = Field(None, description="Size of the stored image where it renders smaller than was asked for.")
    degraded: tuple[str, ...] = ()
    adapters: tuple[AdapterRef, ...] = ()
    init_image: ObjectKey | None = Field(None, description="Object key of the image to start from.")
    strength: Strength | None = Field(None, description="How far to go from init_image; given with it.")
    near: float | None = Field(
        None, gt=0, le=1, description="An image that the tenant got before will do, where its prompt's cosine similarity is at least this."
    )

    @property
    def guided(self) -> bool:
        return self.guidance > 1

    @property
    def steps_run(self) -> int:
        """Denoising steps of each image: fewer than ``steps`` where an image is started from."""
        return steps_run(self.steps, self.strength)

    @property
    def variant(self) -> str:
        """What of its adapters and start image it must share with others of its micro-batch, as text."""
        parts = [str(adapter) for adapter in self.adapters]
        return "+".join(parts if self.strength is None else [*parts, f"from@{self.strength:g}"])


class Lease(Message):
    """The right of one worker's one incarnation to render a micro-batch until it expires; progress renews it."""

    kind: Literal[DispatchKind.LEASE] = DispatchKind.LEASE
    lease_id: Identifier
    cell: Name
    pool: Name
    worker_id: Identifier
    incarnation: Identifier
    attempt: int = Field(ge=1, description="Highest attempt among its tasks.")
    issued_at: Timestamp
    expires_at: Timestamp
    lease_s: float = Field(gt=0, description="How long each renewal lasts.")
    model: ModelRef
    batch_key: BatchKey
    lane: Lane = Field(Lane.NORMAL, description="Of its first task; a worker lets a more urgent lease go before a running one.")
    tasks: tuple[RenderTask, ...] = Field(min_length=1)


class Revoke(Message):
    """Stop these requests of this lease at the next step boundary: cancelled, or fenced off."""

    kind: Literal[DispatchKind.REVOKE] = DispatchKind.REVOKE
    lease_id: Identifier
    worker_id: Identifier
    pool: Name
    request_ids: tuple[Identifier, ...] = Field((), description="Empty means the whole lease.")


AnyDispatchMessage = Annotated[Lease | Revoke, Field(discriminator="kind")]
dispatch_messages: TypeAdapter[AnyDispatchMessage] = TypeAdapter(AnyDispatchMessage)
