"""What the cost model keeps: bounded, and the same after a restore."""

from __future__ import annotations

import logging
from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.control import ModelDefaults
from include.routing.cost_model import CostModel, Work
from include.routing.robust_regression import CHANGE_RUN

MODEL, POOL = "emoji/1", "gpu"
DEFAULTS = ModelDefaults(width=64, height=64, steps=12, guidance=3.0, step_s=0.05)
USUAL = Work(64 * 64, 12, 1, True)
SHAPES = [Work(pixels, steps, 1, True) for pixels in (1024, 4096, 9216) for steps in (1, 12, 30)]


def teach(model: CostModel, count: int, *, pool: str = POOL) -> None:
    random = Random(1)
    for _ in range(count):
        work = random.choice(SHAPES)
        model.observe(MODEL, work, (0.05 + 2e-6 * work.steps * work.pixels) * exp(random.gauss(0, 0.1)), DEFAULTS, pool)


def taught(count: int) -> CostModel:
    model = CostModel()
    teach(model, count)
    return model


def test_the_least_recently_observed_keys_go_and_are_named() -> None:
    model = CostModel(max_models=4)
    assert model.observe("a/1", USUAL, 1.0, DEFAULTS, POOL) == ("gpu|a/1", "*|a/1")
    model.observe("b/1", USUAL, 1.0, DEFAULTS, POOL)
    model.observe("a/1", USUAL, 1.0, DEFAULTS, POOL)
    assert model.observe("c/1", USUAL, 1.0, DEFAULTS, POOL) == ("gpu|c/1", "*|c/1", "gpu|b/1", "*|b/1")
    assert [key for key, _ in model.encode()] == ["gpu|a/1", "*|a/1", "gpu|c/1", "*|c/1"]
    assert model.encode_key("gpu|b/1") == ""
    assert model.predict("b/1", USUAL, DEFAULTS, POOL).samples == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["x", "y", "z"]))))
def test_it_never_holds_more_than_it_may_and_a_store_that_follows_holds_the_same(seen: list[tuple[int, str]]) -> None:
    model, store = CostModel(max_models=5), dict[str, str]()
    for version, pool in seen:
        for key in model.observe(f"m/{version}", USUAL, 1.0 + version, DEFAULTS, pool):
            store[key] = model.encode_key(key)
        assert len(model) <= 5
    assert {key: text for key, text in store.items() if text} == dict(model.encode())


def test_what_is_restored_predicts_and_learns_the_same() -> None:
    model, restored = taught(150), CostModel()
    teach(model, 50, pool="edge")
    for _ in range(3):
        model.observe(MODEL, USUAL, 1000.0, DEFAULTS, POOL)
    restored.restore([*model.encode(), ("gone|emoji/1", "")])
    assert restored.encode() == model.encode()
    for pool in (POOL, "edge", None, "new"):
        assert [restored.predict(MODEL, work, DEFAULTS, pool) for work in SHAPES] == [
            model.predict(MODEL, work, DEFAULTS, pool) for work in SHAPES
        ]
    for either in (model, restored):
        for _ in range(CHANGE_RUN - 3):
            either.observe(MODEL, USUAL, 1000.0, DEFAULTS, POOL)
        teach(either, 50)
    assert restored.encode() == model.encode()


def test_a_restore_is_bounded_too() -> None:
    model, small = CostModel(), CostModel(max_models=2)
    for version in range(5):
        model.observe(f"m/{version}", USUAL, 1.0, DEFAULTS, POOL)
    small.restore(model.encode())
    assert small.encode() == model.encode()[-2:]


def _spoilt() -> dict[str, str]:
    text = taught(1).encode_key(f"{POOL}|{MODEL}")
    return {
        "cut": text[:-1],
        "list": "[]",
        "version": text.replace('"v":1', '"v":2'),
        "reference": text.replace('"reference":4096', '"reference":0'),
        "coefficients": text.replace('"coefficients":[', '"coefficients":[1.0,'),
        "negative": text.replace('"coefficients":[', '"coefficients":[-'),
        "text": text.replace('"half_width":', '"half_width":"wide","x":'),
        "unknown": text.replace('"run":', '"runs":'),
        "missing": text.replace('"reference":4096,', ""),
        "infinite": text.replace('"covariance":[', '"covariance":[1e'),
    }


@pytest.mark.parametrize("which", sorted(_spoilt()))
def test_learned_costs_that_cannot_be_read_are_logged_and_learned_anew(which: str, caplog: pytest.LogCaptureFixture) -> None:
    good, model = taught(5).encode(), CostModel()
    with caplog.at_level(logging.WARNING):
        model.restore([("gpu|bad/1", _spoilt()[which]), *good])
    assert "gpu|bad/1" in caplog.text
    assert model.encode() == good


def test_one_key_is_not_enough() -> None:
    with pytest.raises(ValueError, match="max_models: 1"):
        CostModel(max_models=1)
