"""A request of the demo with what must become of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from include.contracts.errors import ReasonCode
from include.contracts.requests import ServiceClass, Tier


class Way(StrEnum):
    KAFKA = "kafka"  #: produced to a request topic
    GATEWAY = "gateway"  #: posted to the HTTP API


@dataclass(frozen=True, kw_only=True)
class Planned:
    label: str  #: what is special about it; the prompt of a good one
    way: Way
    service_class: ServiceClass
    tenant: str
    tier: Tier
    value: bytes | None  #: message value or HTTP body
    request_id: str | None = None  #: None where the message has none that could be read
    key: str | None = None  #: Kafka key; equal keys stay in order
    expected: ReasonCode | None = None  #: why it must be refused; None means that it must complete
    fields: dict[str, Any] = field(default_factory=dict)  #: what a good one asks for

    @property
    def good(self) -> bool:
        return self.expected is None

    @property
    def prompt(self) -> str:
        return str(self.fields.get("prompt", ""))


def kafka_value(request_id: str, tenant: str, tier: Tier, fields: dict[str, Any]) -> bytes:
    return json.dumps({"schema_version": 1, "request_id": request_id, "tenant": tenant, "tier": tier, **fields}).encode()


def gateway_body(request_id: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"request_id": request_id, **fields}).encode()
