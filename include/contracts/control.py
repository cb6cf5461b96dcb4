"""What steers the running router: data, not code, on a compacted topic keyed by :attr:`ControlMessage.key`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from include.contracts.base import Identifier, Label, Message, Name, Part, Timestamp
from include.contracts.dispatch import ModelRef
from include.contracts.events import Lane
from include.contracts.policy import (
    LaneRule,
    PoolRule,
    QualityFloor,
    Quota,
    Rung,
    default_floors,
    default_ladder,
    default_objectives,
    default_quality_floors,
    default_quotas,
    ladder_trouble,
    lanes_trouble,
)
from include.contracts.requests import Guidance, Prompt, Side, Steps, Tier


class ControlKind(Label):
    MODEL_ROUTE = "model_route"  #: which version serves a model
    SCENARIO = "scenario"  #: a named set of defaults
    POLICY = "policy"  #: class and tier to lane, bounds, quotas, ladder, pools
    TENANT_QUOTA = "tenant_quota"  #: one tenant's own quota
    CANCEL = "cancel"  #: a tenant takes a request back


class ControlMessage(Message):
    at: Timestamp
    by: str = Field("", max_length=200, description="Who or what sent it.")

    @property
    @abstractmethod
    def key(self) -> str:
        """The compaction key: the newest message of a key is the one that counts."""


class ModelDefaults(Part):
    """What a request of this model gets where it says nothing, and what the model can do at all."""

    width: Side
    height: Side
    steps: Steps
    guidance: Guidance
    sizes: tuple[tuple[int, int], ...] = Field((), description="Sizes it renders as (width, height); empty means any.")
    max_images: int = Field(4, ge=1)
    step_s: float = Field(0.05, gt=0, description="Predicted device seconds of one step of one image, before anything was measured.")


class Canary(Part):
    """A version on trial: it gets a share of a model's requests beside the champion."""

    challenger: ModelRef
    share: float = Field(gt=0, lt=1, description="Of the model's requests, by a hash of their ids.")


class ModelRoute(ControlMessage):
    kind: Literal[ControlKind.MODEL_ROUTE] = ControlKind.MODEL_ROUTE
    name: Name = Field(description="Registered model.")
    champion: ModelRef | None = Field(None, description="The version that serves; none takes the model out of service.")
    previous: ModelRef | None = Field(None, description="The version that served before; it goes on until a worker can serve champion.")
    defaults: ModelDefaults
    is_default: bool = Field(False, description="Whether requests that name no model get this one.")
    distilled: Name | None = Field(None, description="Registered few-step model that may stand in for this one under load.")
    adapter_of: Name | None = Field(None, description="The model that this is a LoRA adapter of; it serves no requests by itself.")
    canary: Canary | None = Field(None, description="Version on trial; a worker that lacks or refuses it renders on champion.")

    @property
    def versions(self) -> tuple[ModelRef, ...]:
        """All that may render, the most wanted first."""
        named = (self.champion, self.canary.challenger if self.canary else None, self.previous)
        return tuple(ref for ref in named if ref is not None)

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"


class Scenario(ControlMessage):
    kind: Literal[ControlKind.SCENARIO] = ControlKind.SCENARIO
    name: Name
    model: Name
    prompt_template: Prompt = Field("{prompt}", description="Where {prompt} stands for the request's prompt.")
    negative_prompt: Prompt = ""
    steps: Steps | None = None
    guidance: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    retired: bool = Field(False, description="No longer offered.")

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"


class Policy(ControlMessage):
    """The policy table; the last good one stays when a new one is refused."""

    kind: Literal[ControlKind.POLICY] = ControlKind.POLICY
    lanes: tuple[LaneRule, ...] = Field(max_length=100, description="From service class, tier and predicted cost to a lane.")
    lease_s: float = Field(30.0, ge=1, le=3600, description="How long a lease lasts; workers renew it with heartbeats of a second.")
    max_attempts: int = Field(3, ge=1, le=20)
    lane_bound_s: dict[Lane, float] = Field(description="Predicted device seconds a lane may hold.")
    lane_floor: dict[Lane, float] = Field(
        default_factory=default_floors, description="Share of the device time that a backlogged lane gets at least; below 1 together."
    )
    lane_objective_s: dict[Lane, float] = Field(
        default_factory=default_objectives, description="Seconds a request of the lane should wait at most; shares move by it."
    )
    quotas: dict[Tier, Quota] = Field(default_factory=default_quotas, description="Of each tenant of a tier without a quota of its own.")
    ladder: tuple[Rung, ...] = Field(default_factory=default_ladder, max_length=16, description="From best to worst; empty turns it off.")
    quality_floors: dict[Tier, QualityFloor] = Field(default_factory=default_quality_floors, description="Where the ladder ends.")
    degrade_from: float = Field(0.5, gt=0, lt=1, description="Share of its bound at which a lane starts to degrade realtime requests.")
    pools: dict[Name, PoolRule] = Field(default_factory=dict, description="Price and limits by pool.")
    batch_s: float = Field(20.0, gt=0, le=3600, description="Predicted device seconds of a micro-batch at most.")
    linger_s: float = Field(0.0, ge=0, le=10, description="How long a lone low or normal request waits for company when nobody else does.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        trouble = lanes_trouble(self.lanes)
        if trouble:
            raise ValueError(trouble)
        for name in ("lane_bound_s", "lane_objective_s"):
            values: dict[Lane, float] = getattr(self, name)
            if set(values) != set(Lane) or not all(value > 0 for value in values.values()):
                raise ValueError(f"{name} must hold a positive number for each of high, normal, low")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.lane_floor) != set(Lane) or min(self.lane_floor.values()) < 0 or sum(self.lane_floor.values()) >= 1:
            raise ValueError("lane_floor must hold a share of at least 0 for each of high, normal, low, below 1 together")
        for name in ("quotas", "quality_floors"):
            if set(getattr(self, name)) != set(Tier):
                raise ValueError(f"{name} must hold each of free, pro, enterprise")
        trouble = ladder_trouble(self.ladder)
        if trouble:
            raise ValueError(trouble)
        return self

    @property
    def key(self) -> str:
        return str(self.kind)


class TenantQuota(ControlMessage):
    """A quota of one tenant's own, in place of its tier's; without one it goes back to its tier's."""

    kind: Literal[ControlKind.TENANT_QUOTA] = ControlKind.TENANT_QUOTA
    tenant: Name
    quota: Quota | None = None

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.tenant}"


class Cancel(ControlMessage):
    kind: Literal[ControlKind.CANCEL] = ControlKind.CANCEL
    request_id: Identifier
    tenant: Name = Field(description="Must own the request.")

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.request_id}"


AnyControlMessage = Annotated[ModelRoute | Scenario | Policy | TenantQuota | Cancel, Field(discriminator="kind")]
control_messages: TypeAdapter[AnyControlMessage] = TypeAdapter(AnyControlMessage)
