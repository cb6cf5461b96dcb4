from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.scheduling.decayed import DecayedQuantile


def test_without_decay_it_is_the_quantile() -> None:
    numbers, seen = random.Random(1), DecayedQuantile(tau_s=1e9)
    for _ in range(10_000):
        seen.add(numbers.expovariate(0.1), 0.0)
    assert seen.quantile(0.9, 0.0) == pytest.approx(23.03, rel=0.1)


def test_it_forgets() -> None:
    seen = DecayedQuantile(tau_s=30.0)
    for second in range(100):
        seen.add(100.0, float(second))
    for second in range(100, 200):
        seen.add(1.0, float(second))
    assert seen.quantile(0.9, 200.0) == pytest.approx(1.0, rel=0.06)


def test_what_was_seen_long_ago_says_nothing() -> None:
    seen = DecayedQuantile(tau_s=30.0)
    assert seen.quantile(0.9, 0.0) is None
    seen.add(5.0, 1000.0)
    assert seen.quantile(0.9, 1010.0) == pytest.approx(5.0, rel=0.06)
    assert seen.quantile(0.9, 1100.0) is None


def test_days_without_a_value_overflow_nothing() -> None:
    seen = DecayedQuantile(tau_s=1.0)
    for at in (1.0, 1e9, 1e9 + 1e5, 1.5e9):
        seen.add(3.0, at)
        assert seen.quantile(0.5, at) == pytest.approx(3.0, rel=0.06)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_it_lies_within_what_was_seen_and_survives_a_restart(values: list[tuple[float, float]], share: float) -> None:
    seen, now = DecayedQuantile(tau_s=30.0), 0.0
    for value, elapsed in values:
        now += elapsed
        seen.add(value, now)
    found = seen.quantile(share, now)
    lowest, highest = min(value for value, _ in values), max(value for value, _ in values)
    assert found is not None and lowest * 0.94 - 0.001 <= found <= highest * 1.06
    again = DecayedQuantile(tau_s=30.0)
    again.restore(json.loads(json.dumps(seen.encode())))
    assert again.quantile(share, now) == found
