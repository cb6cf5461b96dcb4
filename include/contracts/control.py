"""What steers the running router: data, not code, on a compacted topic keyed by :attr:`ControlMessage.key`."""

from __future__ import annotations

from abc import abstractmethod
from enum import StrEnum
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from include.contracts.base import Identifier, Message, Name, Part, Timestamp
from include.contracts.dispatch import ModelRef
from include.contracts.events import Lane
from include.contracts.requests import Guidance, Prompt, ServiceClass, Side, Steps, Tier


class ControlKind(StrEnum):
    MODEL_ROUTE = "model_route"  #: which version serves a model
    SCENARIO = "scenario"  #: a named set of defaults
    POLICY = "policy"  #: class and tier to lane, bounds
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


class ModelRoute(ControlMessage):
    kind: Literal[ControlKind.MODEL_ROUTE] = ControlKind.MODEL_ROUTE
    name: Name = Field(description="Registered model.")
    champion: ModelRef | None = Field(None, description="The version that serves; none takes the model out of service.")
    defaults: ModelDefaults
    is_default: bool = Field(False, description="Whether requests that name no model get this one.")

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


class LaneRule(Part):
    service_class: ServiceClass
    tier: Tier
    lane: Lane


class Policy(ControlMessage):
    """The policy table; the last good one stays when a new one is refused."""

    kind: Literal[ControlKind.POLICY] = ControlKind.POLICY
    lanes: tuple[LaneRule, ...] = Field(description="Every pair of service class and tier, once.")
    lease_s: float = Field(30.0, gt=0, le=3600)
    max_attempts: int = Field(3, ge=1, le=20)
    lane_bound_s: dict[Lane, float] = Field(description="Predicted device seconds a lane may hold.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        pairs = [(rule.service_class, rule.tier) for rule in self.lanes]
        wanted = set(product(ServiceClass, Tier))
        if len(pairs) != len(set(pairs)) or set(pairs) != wanted:
            raise ValueError(f"lanes must hold each of the {len(wanted)} pairs of service_class and tier exactly once")
        if set(self.lane_bound_s) != set(Lane) or min(self.lane_bound_s.values()) <= 0:
            raise ValueError("lane_bound_s must hold a positive bound for each of high, normal, low")
        return self

    @property
    def key(self) -> str:
        return str(self.kind)


class Cancel(ControlMessage):
    kind: Literal[ControlKind.CANCEL] = ControlKind.CANCEL
    request_id: Identifier
    tenant: Name = Field(description="Must own the request.")

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.request_id}"


AnyControlMessage = Annotated[ModelRoute | Scenario | Policy | Cancel, Field(discriminator="kind")]
control_messages: TypeAdapter[AnyControlMessage] = TypeAdapter(AnyControlMessage)
