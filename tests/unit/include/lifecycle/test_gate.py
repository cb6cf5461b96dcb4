"""The gate: each metric against the champion's by the policy, with a reason that names the numbers."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from include.lifecycle.gate import GatePolicy, MissingEvaluationError, judge

GOOD = {"kernel_distance": 0.10, "held_out_loss": 0.20, "seconds_per_image": 0.30, "size_mb": 90.0}
POLICY = GatePolicy(quality_worse_pct=10, slower_pct=50, bigger_pct=5)


def compare(policy: GatePolicy = POLICY, **changes: float):
    return judge("emoji", "2", {**GOOD, **changes}, policy, champion="1", champion_metrics=GOOD)


def test_the_first_version_passes_with_nothing_to_compare_it_with() -> None:
    report = judge("emoji", "1", GOOD, POLICY)
    assert report.passed
    assert all("no champion" in reason for reason in report.reasons)


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("kernel_distance", 0.1099, 0.1101), ("held_out_loss", 0.2199, 0.2201), ("seconds_per_image", 0.449, 0.451), ("size_mb", 94.4, 94.6)],
)
def test_each_metric_may_grow_by_what_the_policy_says_and_no_more(metric: str, good: float, bad: float) -> None:
    assert compare(**{metric: good}).passed
    report = compare(**{metric: bad})
    assert not report.passed
    assert [finding.metric for finding in report.findings if not finding.passed] == [metric]
    assert len(report.reasons) == 1 and report.reasons[0].startswith(metric)


def test_better_is_always_good_enough() -> None:
    assert compare(GatePolicy(quality_worse_pct=0, slower_pct=0, bigger_pct=0), kernel_distance=0.01, size_mb=1.0).passed


def test_a_quality_within_its_own_error_counts_as_equal() -> None:
    noisy = {**GOOD, "kernel_distance_error": 0.02}
    report = judge("emoji", "2", {**noisy, "kernel_distance": 0.15}, POLICY, champion="1", champion_metrics=noisy)
    assert report.passed
    report = judge("emoji", "2", {**noisy, "kernel_distance": 0.16}, POLICY, champion="1", champion_metrics=noisy)
    assert not report.passed


def test_an_unbiased_distance_below_zero_is_compared_with_the_right_sign() -> None:
    below = {**GOOD, "kernel_distance": -0.001}
    worse = judge("emoji", "2", {**GOOD, "kernel_distance": 0.002}, POLICY, champion="1", champion_metrics=below)
    better = judge("emoji", "2", {**GOOD, "kernel_distance": -0.002}, POLICY, champion="1", champion_metrics=below)
    assert (worse.passed, better.passed) == (False, True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_measurement_that_is_no_number_never_passes(value: float) -> None:
    report = judge("emoji", "1", {**GOOD, "held_out_loss": value}, POLICY)
    assert not report.passed
    assert "doesn't work" in report.reasons[0]


def test_a_version_that_was_not_measured_is_not_judged() -> None:
    with pytest.raises(MissingEvaluationError, match="held_out_loss, seconds_per_image, size_mb; run evaluate_model with version 3"):
        judge("emoji", "3", {"kernel_distance": 0.1}, POLICY)


def test_a_champion_that_was_not_measured_does_not_stop_a_promotion() -> None:
    report = judge("emoji", "2", GOOD, POLICY, champion="1", champion_metrics={}, notes=("Champion 1 was never evaluated.",))
    assert report.passed
    assert "never evaluated" in report.markdown()


def test_the_table_shows_every_metric_with_both_values() -> None:
    table = compare(held_out_loss=0.5).markdown()
    assert table.count("\n|") == 5
    assert "| ✘ | held_out_loss | 0.5 | 0.2 | +150.0 % | +10 % |" in table


def test_a_policy_is_bounded() -> None:
    with pytest.raises(ValidationError, match="slower_pct"):
        GatePolicy(slower_pct=-1)
