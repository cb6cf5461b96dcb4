"""Control messages that contradict themselves are refused whole."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from include.contracts.control import Cancel, ModelDefaults, ModelRoute, Policy, Scenario, control_messages
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
        (RULES[:-1], BOUNDS, "exactly once"),
        ([*RULES, RULES[0]], BOUNDS, "exactly once"),
        (RULES, {"high": 1.0}, "lane_bound_s"),
        (RULES, {**BOUNDS, "low": 0.0}, "lane_bound_s"),
    ],
)
def test_policy_that_contradicts_itself(lanes: list[Any], bounds: dict[str, float], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Policy(at=1, lanes=lanes, lane_bound_s=bounds)  # type: ignore[arg-type]


def test_keys_tell_apart_what_may_not_overwrite_each_other() -> None:
    defaults = ModelDefaults(width=64, height=64, steps=8, guidance=3.0)
    messages = [
        ModelRoute(at=1, name="emoji", champion=None, defaults=defaults),
        ModelRoute(at=1, name="other", champion=None, defaults=defaults),
        Scenario(at=1, name="emoji", model="emoji"),
        Cancel(at=1, request_id="emoji", tenant="acme"),
    ]
    assert len({message.key for message in messages}) == len(messages)
