"""Control messages that contradict themselves are refused whole."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from include.contracts.control import Cancel, ModelDefaults, ModelRoute, Policy, Scenario, TenantQuota, control_messages
from include.contracts.events import Lane
from include.contracts.requests import ServiceClass, Tier

RULES = [{"service_class": c, "tier": t, "lane": "normal"} for c, t in product(ServiceClass, Tier)]
BOUNDS = {lane: 60.0 for lane in Lane}


def test_policy_round_trip() -> None:
    policy = Policy(at=1, lanes=tuple(RULES), lane_bound_s=BOUNDS)  # type: ignore[arg-type]
    assert control_messages.validate_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("lanes", "bounds", "word"),
    [
        (RULES[:-1], BOUNDS, "batch enterprise has no rule without max_gpu_s"),
        ([*RULES, RULES[0]], BOUNDS, "two rules for realtime free"),
        ([*RULES[:-1], {**RULES[-1], "max_gpu_s": 5.0}], BOUNDS, "batch enterprise has no rule without max_gpu_s"),
        (RULES, {"high": 1.0}, "lane_bound_s"),
        (RULES, {**BOUNDS, "low": 0.0}, "lane_bound_s"),
    ],
)
def test_policy_that_contradicts_itself(lanes: list[Any], bounds: dict[str, float], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Policy(at=1, lanes=lanes, lane_bound_s=bounds)  # type: ignore[arg-type]


QUOTA = {"rate": 1.0, "burst_s": 1.0, "max_queued": 1, "max_running": 1}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"lane_floor": {"high": 0.5, "normal": 0.3, "low": 0.2}}, "lane_floor"),
        ({"lane_floor": {"high": 0.5, "normal": 0.3}}, "lane_floor"),
        ({"lane_floor": {"high": -0.1, "normal": 0.3, "low": 0.2}}, "lane_floor"),
        ({"lane_floor": {"high": float("nan"), "normal": 0.3, "low": 0.2}}, "lane_floor"),
        ({"lane_objective_s": {"high": 0, "normal": 1, "low": 1}}, "lane_objective_s"),
        ({"quotas": {"free": QUOTA}}, "quotas must hold each of free, pro, enterprise"),
        ({"quotas": {tier: {**QUOTA, "rate": 0} for tier in Tier}}, "rate"),
        ({"quality_floors": {}}, "quality_floors must hold"),
        ({"ladder": [{"steps": 0.5}, {"steps": 0.75}]}, "rung 2 gives more quality than rung 1"),
        ({"ladder": [{"near": 0.9}, {"near": 0.95}]}, "rung 2 gives more quality than rung 1"),
        ({"ladder": [{"near": 0.9}, {"steps": 0.5}]}, "rung 2 gives more quality than rung 1"),
        ({"ladder": [{"steps": 0}]}, "steps"),
        ({"degrade_from": 1.0}, "degrade_from"),
        ({"pools": {"spot": {"price": -1}}}, "price"),
        ({"linger_s": 60}, "linger_s"),
    ],
)
def test_policy_fields_that_cannot_be_meant(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Policy(at=1, lanes=RULES, lane_bound_s=BOUNDS, **fields)  # type: ignore[arg-type]


def test_keys_tell_apart_what_may_not_overwrite_each_other() -> None:
    defaults = ModelDefaults(width=64, height=64, steps=8, guidance=3.0)
    messages = [
        ModelRoute(at=1, name="emoji", champion=None, defaults=defaults),
        ModelRoute(at=1, name="other", champion=None, defaults=defaults),
        Scenario(at=1, name="emoji", model="emoji"),
        Cancel(at=1, request_id="emoji", tenant="acme"),
        TenantQuota(at=1, tenant="emoji"),
        TenantQuota(at=1, tenant="acme"),
    ]
    assert len({message.key for message in messages}) == len(messages)
