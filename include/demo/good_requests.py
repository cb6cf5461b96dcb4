"""What a few tenants would ask for, spread over tiers, service classes, ways in, formats and counts."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import cycle, islice, product
from typing import Any

from include.contracts.requests import ServiceClass, Tier
from include.demo.planned import Planned, Way, gateway_body, kafka_value

#: The tenants that have a key of the gateway come by both ways.
TENANTS = {"acme": Tier.ENTERPRISE, "globex": Tier.PRO, "initech": Tier.FREE}
KAFKA_TENANTS = {"hooli": Tier.PRO, "umbrella": Tier.FREE}
REALTIME, BATCH = ServiceClass.REALTIME, ServiceClass.BATCH

PROMPTS = (
    "red apple", "cat face", "rocket", "pizza", "red heart", "sun with face", "grinning face", "umbrella", "dog face", "house",
    "strawberry", "guitar", "airplane", "fish", "evergreen tree", "soccer ball", "hot beverage", "crescent moon", "birthday cake",
    "bicycle", "camera", "key", "owl", "tulip", "blue heart", "green apple", "mushroom", "balloon", "crown", "snowman", "lemon",
    "wrapped gift",
)  # fmt: skip

#: Extras that every tenth or so request has.
EXTRAS: tuple[dict[str, Any], ...] = (
    {}, {}, {"image_format": "webp"}, {}, {"images": 2}, {}, {"image_format": "jpeg"}, {}, {"steps": 6}, {"guidance": 5.0},
)  # fmt: skip


def _routes() -> Iterator[tuple[str, Tier, Way, ServiceClass]]:
    both = product((Way.KAFKA, Way.GATEWAY), (REALTIME, REALTIME, BATCH))
    ways = [(way, service_class) for way, service_class in both]
    by_both = [(tenant, tier, *way) for way in ways for tenant, tier in TENANTS.items()]
    by_kafka = [(tenant, tier, Way.KAFKA, service_class) for tenant, tier in KAFKA_TENANTS.items() for service_class in (REALTIME, BATCH)]
    return cycle([*by_both[:9], *by_kafka, *by_both[9:]])


def good_requests(run: str, count: int, scenario: str | None = None) -> list[Planned]:
    """The first one comes by Kafka.

    :param scenario: one that is on offer; one request in eight names it
    """
    numbered = enumerate(islice(zip(_routes(), cycle(PROMPTS), cycle(EXTRAS), strict=False), count))
    return [
        good_request(f"{run}-{number:03}", *route, prompt, _extras(extras, scenario, number))
        for number, (route, prompt, extras) in numbered
    ]


def _extras(extras: dict[str, Any], scenario: str | None, number: int) -> dict[str, Any]:
    return {"scenario": scenario} if scenario and number % 8 == 5 else extras


def good_request(
    request_id: str, tenant: str, tier: Tier, way: Way, service_class: ServiceClass, prompt: str, extras: dict[str, Any]
) -> Planned:
    """With a seed of its own, so that no cache answers it with an image of an earlier demo."""
    fields = {"prompt": prompt, "seed": zlib.crc32(request_id.encode()), **extras}
    value = gateway_body(request_id, fields) if way is Way.GATEWAY else kafka_value(request_id, tenant, tier, fields)
    return Planned(
        label=prompt,
        way=way,
        service_class=service_class,
        tenant=tenant,
        tier=tier,
        value=value,
        request_id=request_id,
        key=request_id,
        fields=fields,
    )
