from __future__ import annotations

from pathlib import Path

import yaml

import include.registry
from include.config import Settings
from include.contracts.control import Policy
from include.contracts.defaults import default_policy
from include.scheduling.tuning import Tuning, retry_delay_s

SHIPPED = Path(include.registry.__file__).with_name("policy.yaml")


def test_the_shipped_policy_is_the_built_in_one() -> None:
    """Before the control topic was read the router decides as it will afterwards."""
    settings = Settings(_env_file=None)
    shipped = Policy(
        at=0.0, by="built in", lease_s=settings.lease_s, max_attempts=settings.max_attempts, **yaml.safe_load(SHIPPED.read_text())
    )
    built_in = default_policy(lease_s=settings.lease_s, max_attempts=settings.max_attempts)
    assert {(rule.service_class, rule.tier): rule.lane for rule in shipped.lanes} == {
        (rule.service_class, rule.tier): rule.lane for rule in built_in.lanes
    }
    assert shipped.model_dump(exclude={"lanes"}) == built_in.model_dump(exclude={"lanes"})


def test_backoff_doubles_up_to_its_cap_with_a_jitter_that_is_the_requests_own() -> None:
    tuning = Tuning(retry_base_s=1.0, retry_cap_s=8.0)
    for failures, middle in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)):
        delays = {retry_delay_s(tuning, f"r-{number}", failures) for number in range(50)}
        assert 0.75 * middle <= min(delays) < max(delays) <= 1.25 * middle
    assert retry_delay_s(tuning, "r-1", 2) == retry_delay_s(tuning, "r-1", 2)
