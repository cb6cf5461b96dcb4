"""The gate: each metric against the champion's by the policy, with a reason that names the numbers."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from include.lifecycle.gate import GatePolicy, GateReport, MissingEvaluationError, judge

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


MORE = {**GOOD, "prompt_agreement": 0.5, "prompt_agreement_error": 0.0, "memorised_share": 0.2, "leaked_samples": 0.0}
FACTS = {"features": "two-tower-1", "licenses": {"CC BY-SA 4.0": 90}}


def compare_more(
    policy: GatePolicy = POLICY, facts: dict | None = None, champion_facts: dict | None = None, **changes: float
) -> GateReport:
    return judge(
        "emoji", "2", {**MORE, **changes}, policy, champion="1", champion_metrics=MORE,
        facts=FACTS if facts is None else facts, champion_facts=FACTS if champion_facts is None else champion_facts,
    )  # fmt: skip


def failed(report: GateReport) -> list[str]:
    return [finding.metric for finding in report.findings if not finding.passed]


def test_equal_versions_pass_with_a_reason_for_each_finding() -> None:
    report = compare_more()
    assert report.passed
    assert len(report.reasons) == 8 and not report.notes


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("prompt_agreement", 0.451, 0.449), ("memorised_share", 0.399, 0.401), ("leaked_samples", 0, 1)],
)
def test_agreement_memorisation_and_leaks_have_their_limits(metric: str, good: float, bad: float) -> None:
    assert compare_more(**{metric: good}).passed
    assert failed(compare_more(**{metric: bad})) == [metric]


def test_a_fall_in_agreement_within_its_error_counts_as_equal() -> None:
    noisy = {**MORE, "prompt_agreement_error": 0.03}
    assert judge("emoji", "2", {**noisy, "prompt_agreement": 0.42}, POLICY, champion="1", champion_metrics=noisy).passed


def test_a_memorised_share_has_a_limit_without_a_champion_too() -> None:
    policy = GatePolicy(memorised_max_pct=10)
    assert failed(judge("emoji", "1", MORE, policy)) == ["memorised_share"]


def test_a_licence_must_be_the_policys_or_the_champions() -> None:
    other = {**FACTS, "licenses": {"CC BY-SA 4.0": 90, "CC BY-NC 4.0": 3}}
    report = compare_more(facts=other)
    assert failed(report) == ["licences"]
    assert "CC BY-NC 4.0 (3 samples) not among those of the champion: CC BY-SA 4.0" in report.reasons[0]
    assert compare_more(GatePolicy(licenses="cc by*, CC0"), facts=other).passed
    assert failed(compare_more(GatePolicy(licenses="CC0"))) == ["licences"]


def test_figures_on_other_features_are_not_compared_and_it_says_so() -> None:
    report = compare_more(champion_facts={**FACTS, "features": "colour-edge-1"}, kernel_distance=9.0, prompt_agreement=0.01)
    assert report.passed
    assert "measured on colour-edge-1, this version on two-tower-1" in report.notes[0]
    assert failed(compare_more(champion_facts={**FACTS, "features": "colour-edge-1"}, size_mb=1000)) == ["size_mb"]


def test_versions_without_the_newer_measurements_are_judged_by_those_they_have() -> None:
    old = judge("emoji", "2", GOOD, POLICY, champion="1", champion_metrics=GOOD)
    assert old.passed and "no prompt_agreement, memorised_share, leaked_samples" in old.notes[0]
    against_old = judge("emoji", "2", MORE, POLICY, champion="1", champion_metrics=GOOD, facts=FACTS)
    assert against_old.passed
    assert "prompt_agreement 0.5: no champion to compare with" in against_old.reasons


def test_an_agreement_that_is_no_number_never_passes() -> None:
    assert failed(compare_more(prompt_agreement=math.nan)) == ["prompt_agreement"]


SLOW = {**GOOD, "seconds_per_image": 3.0}


def beside(version: str, own: float, rival: float) -> dict[str, object]:
    return {"beside": {"version": version, "own": own, "rival": rival}}


def test_speeds_that_were_measured_in_turns_count_before_those_of_two_evaluations() -> None:
    busy = judge("emoji", "2", SLOW, POLICY, champion="1", champion_metrics=GOOD, facts=beside("1", 3.0, 2.9))
    assert busy.passed and any("in turns" in note for note in busy.notes)
    slower = judge("emoji", "2", GOOD, POLICY, champion="1", champion_metrics=GOOD, facts=beside("1", 3.0, 1.0))
    assert not slower.passed and "seconds_per_image 3 against 1" in slower.reasons[0]


def test_turns_with_an_earlier_champion_do_not_count() -> None:
    report = judge("emoji", "3", SLOW, POLICY, champion="2", champion_metrics=GOOD, facts=beside("1", 3.0, 2.9))
    assert not report.passed and not any("in turns" in note for note in report.notes)
