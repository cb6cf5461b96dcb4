from __future__ import annotations

from typing import Any

import pytest

from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.contracts.errors import ReasonCode, RefusedError
from include.contracts.events import Lane
from include.contracts.policy import LaneRule, PoolRule, Rung
from include.contracts.requests import ServiceClass, Tier
from include.routing.catalog import Catalog
from include.routing.classify import Classified, Classifier
from include.routing.cost_model import CostModel, Work
from tests.unit.include.scheduling.harness import request, route

POOLS = frozenset({"premium", "standard", "spot"})


def policy(**fields: Any) -> Policy:
    return default_policy().model_copy(update=fields)


class Rig:
    """A classifier with its policy, costs and routes at hand."""

    def __init__(self, **fields: Any) -> None:
        self.catalog = Catalog(policy(**fields), "emoji")
        self.costs = CostModel()
        self.catalog.put(route())
        self.classifier = Classifier(self.catalog, self.costs, POOLS)

    def __call__(self, service_class: ServiceClass = ServiceClass.REALTIME, level: int = 0, **fields: Any) -> Classified:
        return self.classifier.classify(request("r-1", **fields), service_class, lambda lane: level)

    def refused(self, **fields: Any) -> tuple[ReasonCode, str | None, str]:
        with pytest.raises(RefusedError) as caught:
            self(**fields)
        return caught.value.reason.code, caught.value.reason.field, caught.value.reason.message


def test_the_lane_is_made_of_class_tier_and_complexity() -> None:
    base = policy().lanes
    cheap = LaneRule(service_class=ServiceClass.REALTIME, tier=Tier.FREE, lane=Lane.HIGH, max_gpu_s=2.0)
    rig = Rig(lanes=(*base, cheap))
    assert rig(tier=Tier.FREE).lane is Lane.HIGH
    assert rig(tier=Tier.FREE, steps=20).lane is Lane.NORMAL
    assert rig(ServiceClass.BATCH, tier=Tier.FREE).lane is Lane.LOW


def test_complexity_is_what_completions_taught() -> None:
    """The route says a second; ten times that is what it takes, so it is not for the high lane."""
    rig = Rig()
    assert rig(tier=Tier.PRO).lane is Lane.HIGH
    for _ in range(50):
        rig.costs.observe("emoji/1", Work(32 * 32, 4, 1, False), 200.0, route().defaults, "standard")
    found = rig(tier=Tier.PRO)
    assert found.lane is Lane.NORMAL
    assert found.prediction.low_s < 200.0 < found.prediction.high_s


def test_a_policy_swapped_in_holds_for_the_next_request() -> None:
    rig = Rig()
    rules = tuple(rule.model_copy(update={"lane": Lane.LOW}) for rule in policy().lanes)
    rig.catalog.put(policy(lanes=rules))
    assert rig(tier=Tier.ENTERPRISE).lane is Lane.LOW


def test_a_loaded_lane_takes_quality_and_says_so() -> None:
    found = Rig()(level=1, steps=20)
    assert found.level == 1 and found.task.steps == 15
    assert found.task.degraded == ("15 of 20 steps",)
    assert found.prediction.seconds == pytest.approx(0.25 * 15)


@pytest.mark.parametrize(("service_class", "fields"), [(ServiceClass.REALTIME, {"allow_degradation": False}), (ServiceClass.BATCH, {})])
def test_nothing_is_taken_from_who_opted_out_or_can_wait(service_class: ServiceClass, fields: dict[str, Any]) -> None:
    found = Rig()(service_class, 4, steps=20, **fields)
    assert (found.level, found.task.steps, found.task.degraded) == (0, 20, ())


def test_who_names_a_seed_gets_that_image_and_no_other() -> None:
    rig = Rig(ladder=(Rung(near=0.95),))
    assert rig(level=1, tier=Tier.FREE).task.near == 0.95
    assert rig(level=1, tier=Tier.FREE, seed=7).task.near is None


def test_a_distilled_model_stands_in() -> None:
    rig = Rig(ladder=(Rung(distilled=True),))
    rig.catalog.put(route("emoji-fast", steps=2))
    rig.catalog.put(route().model_copy(update={"distilled": "emoji-fast"}))
    assert rig(level=1).model == "emoji-fast"
    assert rig(level=1, tier=Tier.PRO).model == "emoji"


@pytest.mark.parametrize(
    ("fields", "pools"),
    [
        ({}, POOLS),
        ({"pools": ("spot", "elsewhere")}, {"spot"}),
        ({"exclude_pools": ("spot",)}, {"premium", "standard"}),
        ({"width": 64, "height": 64}, {"premium", "standard"}),
        ({"tier": Tier.FREE}, {"standard", "spot"}),
    ],
)
def test_pools_are_those_that_nobody_is_against(fields: dict[str, Any], pools: set[str]) -> None:
    rules = {"premium": PoolRule(tiers=(Tier.PRO, Tier.ENTERPRISE)), "spot": PoolRule(max_pixels=32 * 32)}
    assert Rig(pools=rules)(**{"tier": Tier.PRO, **fields}).pools == pools


def test_a_request_that_no_pool_takes_is_refused_with_what_there_is() -> None:
    code, field, message = Rig().refused(pools=("edge",))
    assert (code, field) == (ReasonCode.UNSUPPORTED_SHAPE, "pools")
    assert "premium, spot, standard" in message and "edge" in message
