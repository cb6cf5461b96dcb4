"""The plan of requests, checked against the code that will judge them: the contract, the router's parser, its catalogue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from include.contracts.control import LaneRule, ModelDefaults, ModelRoute, Policy
from include.contracts.dispatch import ModelRef
from include.contracts.errors import ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.requests import GenerationRequest, ServiceClass, Tier
from include.demo.bad_requests import bad_requests
from include.demo.good_requests import TENANTS, good_requests
from include.demo.options import DemoOptions
from include.demo.planned import Planned, Way
from include.demo.traffic import plan_traffic
from include.gateway.bodies import parse_image_request
from include.gateway.errors import ApiError
from include.gateway.keys import DEMO_TENANTS, Caller
from include.routing.catalog import Catalog
from include.routing.parse import Refusal, parse_request

GOOD = good_requests("run", 40, "sticker")
BAD = bad_requests("run", GOOD[0])


@pytest.fixture
def catalog() -> Catalog:
    lanes = tuple(LaneRule(service_class=one, tier=tier, lane=Lane.NORMAL) for one in ServiceClass for tier in Tier)
    found = Catalog(Policy(at=1.0, lanes=lanes, lane_bound_s=dict.fromkeys(Lane, 100.0)), "emoji")
    defaults = ModelDefaults(width=64, height=64, steps=12, guidance=3.0, sizes=((64, 64),))
    champion = ModelRef(name="emoji", version="1", digest="0" * 64, source="x")
    found.put(ModelRoute(at=1.0, name="emoji", champion=champion, defaults=defaults, is_default=True))
    return found


def read(planned: Planned) -> GenerationRequest | Refusal | ApiError:
    if planned.way is Way.GATEWAY:
        try:
            return parse_image_request(planned.value or b"", Caller(tenant=planned.tenant, tier=planned.tier))
        except ApiError as error:
            return error
    return parse_request(None if planned.value is None else planned.value.decode("latin-1"))


@pytest.mark.parametrize("planned", GOOD, ids=lambda planned: planned.request_id)
def test_good_requests_are_ones_that_are_taken(planned: Planned, catalog: Catalog) -> None:
    request = read(planned)
    assert isinstance(request, GenerationRequest)
    assert (request.request_id, request.tenant, request.tier) == (planned.request_id, planned.tenant, planned.tier)
    if request.scenario is None:
        catalog.resolve(request)


@pytest.mark.parametrize("planned", BAD, ids=lambda planned: planned.label)
def test_bad_requests_are_refused_with_the_expected_reason(planned: Planned, catalog: Catalog) -> None:
    if planned.expected in (ReasonCode.DUPLICATE_ID, ReasonCode.ID_TAKEN):
        assert isinstance(read(planned), GenerationRequest)  # only the router can know
        return
    found = read(planned)
    if isinstance(found, ApiError):
        assert found.detail.code == planned.expected
    elif isinstance(found, Refusal):
        assert found.reason.code is planned.expected
    else:
        with pytest.raises(RefusedError) as refused:
            catalog.resolve(found)
        assert refused.value.reason.code is planned.expected


def test_every_way_tier_class_and_format_is_used() -> None:
    assert {planned.way for planned in GOOD} == set(Way)
    assert {planned.tier for planned in GOOD} == set(Tier)
    assert {planned.service_class for planned in GOOD} == set(ServiceClass)
    assert {planned.fields.get("image_format", "png") for planned in GOOD} == {"png", "jpeg", "webp"}
    assert {planned.fields.get("scenario") for planned in GOOD} == {"sticker", None}
    assert len({planned.tenant for planned in GOOD}) >= 5


def test_tenants_that_come_by_http_have_a_key() -> None:
    assert TENANTS == DEMO_TENANTS
    assert {planned.tenant for planned in GOOD + BAD if planned.way is Way.GATEWAY} <= DEMO_TENANTS.keys()


@pytest.mark.parametrize("count", [25, 60, 300])
def test_the_plan_has_the_asked_number_and_keeps_repeated_ids_behind_the_first(count: int) -> None:
    plan = plan_traffic(DemoOptions(out=Path("demo"), run="run", requests=count), None)
    assert len(plan) == count
    assert sum(not planned.good for planned in plan) == len(BAD)
    first = plan[0]
    assert first.good and first.way is Way.KAFKA
    for planned in plan:
        if planned.expected in (ReasonCode.DUPLICATE_ID, ReasonCode.ID_TAKEN):
            assert (planned.key, planned.service_class) == (first.key, first.service_class)


def test_ids_and_bytes_of_two_runs_differ() -> None:
    plans = [plan_traffic(DemoOptions(out=Path("demo"), run=run), None) for run in ("first", "second")]
    values = [{planned.value for planned in plan if planned.value is not None} for plan in plans]
    assert not values[0] & values[1]
    repeated = Counter(planned.request_id for planned in plans[0] if planned.request_id and planned.good)
    assert max(repeated.values()) == 1
