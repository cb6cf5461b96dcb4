from __future__ import annotations

from math import exp
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.routing.robust_regression import CHANGE_RUN, MAX_COEFFICIENT, MIN_COEFFICIENT, PRIOR_COVARIANCE, RobustRegression, Terms

START: Terms = (0.01, 0.0001, 0.0001, 0.0001, 0.0001)
USUAL: Terms = (24.0, 24.0, 12.0, 1.0, 1.0)
DIAGONAL = (0, 5, 9, 12, 14)

amounts = st.floats(1e-3, 1e3)
all_terms = st.tuples(amounts, amounts, amounts, amounts, amounts)


def test_one_direction_that_is_observed_forever_winds_nothing_up() -> None:
    """Classic exponential forgetting would have grown the other directions' variance by a factor of e in 33,000 observations."""
    regression, random = RobustRegression(START), Random(1)
    for _ in range(20_000):
        regression.observe(USUAL, 0.5 * exp(random.gauss(0, 0.05)))
    assert all(0 < regression.covariance[index] <= PRIOR_COVARIANCE[index] * (1 + 1e-9) for index in DIAGONAL)
    assert regression.predict(USUAL)[0] == pytest.approx(0.5, rel=0.03)


@given(st.lists(st.tuples(all_terms, st.floats(1e-9, 1e9)), max_size=60))
def test_the_covariance_stays_one(history: list[tuple[Terms, float]]) -> None:
    regression = RobustRegression(START)
    for terms, value in history:
        regression.observe(terms, value)
    covariance = regression.covariance
    assert all(0 < covariance[index] <= PRIOR_COVARIANCE[index] * (1 + 1e-9) for index in DIAGONAL)
    pairs = {1: (0, 5), 2: (0, 9), 3: (0, 12), 4: (0, 14), 6: (5, 9), 7: (5, 12), 8: (5, 14), 10: (9, 12), 11: (9, 14), 13: (12, 14)}
    for index, (row, column) in pairs.items():
        assert covariance[index] ** 2 <= covariance[row] * covariance[column] * (1 + 1e-6)


@given(st.lists(st.tuples(all_terms, st.floats(1e-9, 1e9)), max_size=60))
def test_coefficients_stay_positive_and_samples_are_counted(history: list[tuple[Terms, float]]) -> None:
    regression = RobustRegression(START)
    for terms, value in history:
        regression.observe(terms, value)
    assert min(regression.coefficients) > 0
    assert regression.samples == len(history)


def test_the_band_holds_four_of_five_of_skewed_noise_too() -> None:
    """Service times have a long right tail: here an exponential one."""
    regression, random, held = RobustRegression(START), Random(3), 0
    for index in range(4000):
        value = 0.5 * (1 + random.expovariate(5.0))
        predicted, factor = regression.predict(USUAL)
        held += index >= 1000 and predicted / factor <= value <= predicted * factor
        regression.observe(USUAL, value)
    assert 0.76 < held / 3000 < 0.84


def test_only_a_long_run_on_one_side_makes_it_unsure_again() -> None:
    regression, random = RobustRegression(START), Random(4)
    for _ in range(500):
        regression.observe(USUAL, 0.5 * exp(random.gauss(0, 0.05)))
    regression.observe(USUAL, regression.predict(USUAL)[0])
    for _ in range(CHANGE_RUN - 1):
        regression.observe(USUAL, 50.0)
    assert regression.covariance[0] < PRIOR_COVARIANCE[0] / 2
    regression.observe(USUAL, 50.0)
    assert regression.covariance == PRIOR_COVARIANCE


def test_values_just_above_the_prediction_are_no_change() -> None:
    regression, random = RobustRegression(START), Random(5)
    for _ in range(500):
        regression.observe(USUAL, 0.5 * exp(random.gauss(0, 0.1)))
    for _ in range(10 * CHANGE_RUN):
        regression.observe(USUAL, regression.predict(USUAL)[0] * exp(0.4 * regression.half_width))
        assert regression.covariance[0] < PRIOR_COVARIANCE[0] / 2


@pytest.mark.parametrize(("amount", "value"), [(1e-12, 1e6), (1e12, 1e-6)])
def test_coefficients_stay_in_their_bounds(amount: float, value: float) -> None:
    regression = RobustRegression(START)
    for _ in range(200):
        regression.observe((amount, amount, amount, amount, amount), value)
    assert all(MIN_COEFFICIENT <= coefficient <= MAX_COEFFICIENT for coefficient in regression.coefficients)


def test_values_that_miss_on_either_side_are_no_change() -> None:
    regression = RobustRegression(START)
    for index in range(500):
        regression.observe(USUAL, 0.5 * (3 if index % 2 else 1 / 3))
        assert abs(regression.run) <= 3 or index < 20
    assert regression.covariance[0] < PRIOR_COVARIANCE[0] / 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("coefficients", (1.0, 1.0, 1.0, 1.0)),
        ("coefficients", (1.0, 1.0, 1.0, 1.0, 0.0)),
        ("coefficients", (1.0, 1.0, 1.0, 1.0, float("nan"))),
        ("covariance", PRIOR_COVARIANCE[:-1]),
        ("covariance", (*PRIOR_COVARIANCE[:-1], 0.0)),
        ("covariance", (*PRIOR_COVARIANCE[:-1], float("inf"))),
        ("half_width", 0.0),
        ("half_width", float("nan")),
        ("samples", -1),
        ("samples", 1.5),
        ("run", None),
    ],
)
def test_a_state_that_cannot_have_been_reached_is_refused(field: str, value: Any) -> None:
    given: dict[str, Any] = {"coefficients": START, field: value}
    with pytest.raises(ValueError, match=field):
        RobustRegression(**given)
