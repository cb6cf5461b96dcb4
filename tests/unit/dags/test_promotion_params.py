"""The promotion's form offers each field of the policies that its answers become, with the same default."""

from __future__ import annotations

import pytest
from airflow.sdk import Param
from pydantic import BaseModel

from include.lifecycle.canary import CanaryPolicy
from include.lifecycle.gate import GatePolicy
from plugins.promotion_params import CANARY_PARAMS, GATE_PARAMS


@pytest.mark.parametrize(("form", "policy"), [(GATE_PARAMS, GatePolicy), (CANARY_PARAMS, CanaryPolicy)])
def test_the_form_is_the_policy(form: dict[str, Param], policy: type[BaseModel]) -> None:
    assert set(form) == set(policy.model_fields)
    assert policy(**{name: param.resolve() for name, param in form.items()}) == policy()
