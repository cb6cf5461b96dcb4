"""What a producer asks for: one request for one or a few images of one prompt."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from include.contracts.base import Identifier, Label, Message, Name, ObjectKey, Part, Timestamp

MAX_PROMPT = 2000
MAX_MESSAGE_BYTES = 64 * 1024
MIN_SIDE, MAX_SIDE, SIDE_MULTIPLE = 16, 4096, 8
MAX_STEPS, MAX_IMAGES, MAX_GUIDANCE = 200, 16, 30.0
MAX_ADAPTERS, MAX_ADAPTER_WEIGHT = 4, 2.0
DEFAULT_STRENGTH = 0.6

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Tier(Label):
    """What the tenant pays for."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class ServiceClass(Label):
    """Which ingress topic a request came in by."""

    REALTIME = "realtime"  #: somebody waits for it
    BATCH = "batch"  #: it may wait, and is paced when the cell is full


class ImageFormat(Label):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


def _printable(text: str) -> str:
    found = _CONTROL.search(text)
    if found:
        raise ValueError(f"contains the control character U+{ord(found.group()):04X} at position {found.start()}; remove it")
    return text


def _multiple(side: int) -> int:
    if side % SIDE_MULTIPLE:
        raise ValueError(f"must be a multiple of {SIDE_MULTIPLE}; {side // SIDE_MULTIPLE * SIDE_MULTIPLE or SIDE_MULTIPLE} would do")
    return side


Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_printable)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE), AfterValidator(_multiple)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
AdapterWeight = Annotated[float, Field(ge=-MAX_ADAPTER_WEIGHT, le=MAX_ADAPTER_WEIGHT, allow_inf_nan=False)]


class Adapter(Part):
    """A LoRA adapter on top of the model."""

    name: Name = Field(description="Registered adapter of the model.")
    weight: AdapterWeight = Field(1.0, description="How strongly it acts; 0 not at all.")


def steps_run(steps: int, strength: float | None) -> int:
    """How many of the steps are run: the last ones where an image is started from, as diffusers counts them, but at least one."""
    return steps if strength is None else max(1, min(steps, int(steps * strength)))


def derived_seed(request_id: str) -> int:
    """The seed of a request that gave none: the same at every attempt, and no other request's."""
    return int.from_bytes(sha256(request_id.encode()).digest()[:8], "big") >> 1


def owns(tenant: str, key: str) -> bool:
    """Whether an object is one that this tenant made or brought."""
    return key.startswith((f"images/{tenant}/", f"inputs/{tenant}/"))


class GenerationRequest(Message):
    """One request. What it leaves out is filled in from the scenario, then from the model's defaults."""

    request_id: Identifier = Field(description="The producer's id and idempotency key; a repeated id is answered, not run again.")
    tenant: Name = Field(description="Who asks; quotas, fairness and object keys go by it.")
    tier: Tier = Field(Tier.FREE, description="What the tenant pays for.")
    prompt: Annotated[Prompt, Field(min_length=1)] = Field(description="What the image shows.")
    negative_prompt: Prompt = Field("", description="What it should not show.")
    model: Name | None = Field(None, description="Registered model; empty means the scenario's, else the installation's default.")
    scenario: Name | None = Field(None, description="A named set of defaults offered to a product.")
    width: Side | None = Field(None, description="Pixels.")
    height: Side | None = Field(None, description="Pixels.")
    steps: Steps | None = Field(None, description="Denoising steps.")
    guidance: Guidance | None = Field(None, description="Classifier-free guidance scale; 1 or less turns guidance off.")
    images: int = Field(1, ge=1, le=MAX_IMAGES, description="How many images, each with its own seed.")
    seed: Seed | None = Field(None, description="Seed of the first image; empty means one derived from the request id.")
    adapters: tuple[Adapter, ...] = Field((), max_length=MAX_ADAPTERS, description="LoRA adapters on top of the model, each once.")
    init_image: ObjectKey | None = Field(None, description="Object key of the tenant's own image to start from, instead of noise alone.")
    strength: Strength | None = Field(
        None, description="How far to go from init_image: 1 forgets it. Only with init_image; empty means 0.6."
    )
    image_format: ImageFormat = Field(ImageFormat.PNG, description="Encoding of the images.")
    deadline_at: Timestamp | None = Field(None, description="When the answer is of no use any more, in seconds since 1970.")
    created_at: Timestamp | None = Field(None, description="When the producer made it, in seconds since 1970.")
    allow_degradation: bool = Field(True, description="Whether fewer steps or pixels may be used under load; always disclosed.")
    pools: tuple[Name, ...] = Field((), max_length=16, description="Pools it may render on; empty means any.")
    exclude_pools: tuple[Name, ...] = Field((), max_length=16, description="Pools it may not render on.")
    trace_id: Identifier | None = Field(None, description="Carried into every event of the request.")

    @model_validator(mode="after")
    def _both_sides(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together; give both or neither")
        return self

    @model_validator(mode="after")
    def _extras(self) -> Self:
        names = [adapter.name for adapter in self.adapters]
        if len(set(names)) < len(names):
            raise ValueError("adapters names one twice; give each once")
        if self.strength is not None and self.init_image is None:
            raise ValueError("strength goes with init_image; give both or leave strength out")
        if self.init_image is not None and not owns(self.tenant, self.init_image):
            raise ValueError(f"init_image must be a key under images/{self.tenant}/ or inputs/{self.tenant}/")
        return self

    @model_validator(mode="after")
    def _some_pool(self) -> Self:
        if self.pools and set(self.pools) <= set(self.exclude_pools):
            raise ValueError("exclude_pools leaves none of pools; take one out")
        return self
