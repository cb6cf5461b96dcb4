"""What each kind of event says, and that nothing of a trace is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.client.why import explain
from include.client.why_words import seconds
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Estimate, State, StatusEvent
from tests.unit.include.client.stories import (
    FULL,
    LOST,
    START,
    completed,
    dispatched,
    event,
    queued,
    text,
    titles,
)


@pytest.mark.parametrize(
    ("waited", "verdict"), [(0.5, "sooner than the band"), (1.0, "within"), (5.0, "within the band"), (5.1, "later than the band")]
)
def test_an_estimate_is_held_against_what_happened(waited: float, verdict: str) -> None:
    told = text(explain([queued(estimate=Estimate(wait_s=3, low_s=1, high_s=5)), dispatched(waited)]))
    assert "expected to start in 3.00 s (1.00 s to 5.00 s)" in told
    assert f"left its lane after {waited:.2f} s" in told
    assert verdict in told


def test_a_retry_is_held_against_its_own_estimate() -> None:
    events = [
        queued(estimate=Estimate(wait_s=3, low_s=1, high_s=5)),
        dispatched(2.0),
        event(State.RETRYING, 4.0, attempt=1, reason=LOST, trace={"backoff_s": 0.48, "failures": 1}),
        queued(4.5, attempt=1, estimate=Estimate(wait_s=0, low_s=0, high_s=0.2)),
        dispatched(5.0, attempt=2),
    ]
    told = explain(events)
    assert titles(told) == ["Queued", "Dispatched", "Retrying", "Queued", "Dispatched"]
    assert "worker_lost: worker worker-0 started anew" in text(told)
    assert "back to its lane after 0.48 s" in text(told)
    assert "left its lane after 0.50 s where 0.00 s (0.00 s to 0.20 s) was expected: later than the band" in told.steps[-1].lines[1]
    assert (told.state, told.over) == (State.PROCESSING, False)


def test_a_lane_without_a_measured_rate_has_no_estimate_to_be_held_against() -> None:
    told = text(explain([queued(estimate=Estimate(wait_s=3600, low_s=0, high_s=1e9)), dispatched(2.0)]))
    assert "can't be estimated" in told
    assert "expected" not in told and "band" not in told


def test_a_handed_back_attempt_is_told_not_to_count() -> None:
    told = text(explain([queued(), event(State.RETRYING, 1.0, attempt=1, reason=LOST, trace={"backoff_s": 0.0, "failures": 0})]))
    assert "the attempt does not count against it" in told
    assert "back to its lane at once" in told


def test_what_led_to_the_lane_is_told() -> None:
    trace = {"predicted_gpu_s": 0.62, "band_gpu_s": [0.5, 0.8], "samples": 12, "queued_gpu_s": 7.44, "outcome": "admitted_degraded"}
    told = text(explain([queued(trace={**trace, "ladder_level": 2}, degraded=("4 of 8 steps",))]))
    assert "admission: admitted degraded" in told
    assert "rung 2" in told
    assert "predicted 0.62 device seconds (0.50 to 0.80), learned from 12 completions" in told
    assert "7.44 device seconds wait there" in told
    assert "degraded: 4 of 8 steps" in told


def test_a_prediction_without_samples_is_a_prior() -> None:
    told = text(explain([queued(trace={"predicted_gpu_s": 1.0, "band_gpu_s": [0.25, 4.0], "samples": 0})]))
    assert "a prior: nothing like it has completed yet" in told


def test_degradation_is_told_where_it_changes() -> None:
    told = text(explain([queued(degraded=("4 of 8 steps",)), dispatched(1.0, degraded=("4 of 8 steps",))]))
    assert told.count("degraded") == 1


def test_a_canary_is_told() -> None:
    told = text(explain([queued(), event(State.PROCESSING, 1.0, model_version="8", trace={"canary_share": 0.1})]))
    assert "version 8, the canary: on trial with 10 % of the model's requests" in told


def test_unknown_keys_of_a_trace_are_shown_as_they_are() -> None:
    trace = {"zebra": 1.23456, "quota": {"left": 3.5, "of": [1, 2]}, "nothing": None, "band_gpu_s": "wide", "samples": True}
    lines = explain([queued(trace=trace)]).steps[0].lines
    assert lines[-1] == "zebra=1.235, quota={left: 3.5, of: [1, 2]}, band_gpu_s=wide, samples=True"


def test_what_an_event_leaves_out_is_left_out() -> None:
    bare = StatusEvent(event_id="r1:Queued:0:0", request_id="r1", tenant="acme", state=State.QUEUED, at=START)
    assert explain([bare]).steps[0].lines == ()


KEYS = (
    "price",
    "linger_s",
    "switch_cost_s",
    "batch_key",
    "batch_size",
    "why_worker",
    "shared_with",
    "batch_bound",
    "band_gpu_s",
    "samples",
)
KEYS += ("why_lane", "outcome", "ladder_level", "predicted_gpu_s", "queued_gpu_s", "backoff_s", "failures", "cached", "lease_id", "new")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_no_trace_makes_it_fail(trace: dict[str, Any]) -> None:
    retry = event(State.RETRYING, 1.5, attempt=1, reason=LOST, trace=trace)
    told = explain([queued(trace=trace), dispatched(1.0, trace=trace), retry, completed(2.0, trace=trace)])
    assert len(told.steps) == 4
    assert all(isinstance(line, str) for step in told.steps for line in step.lines)
    if trace.get("new"):
        assert sum("new=" in line for step in told.steps for line in step.lines) == 4


def test_a_refusal_says_when_to_come_back() -> None:
    told = explain([event(State.REFUSED, reason=FULL, tier=None, lane=None)])
    assert titles(told) == ["Refused"]
    assert told.steps[0].lines == ("realtime request", "overloaded: the high lane is full", "come back in 12.0 s")


def test_the_field_at_fault_is_named() -> None:
    reason = Reason(code=ReasonCode.INVALID_FIELD, field="width", message="width: must be a multiple of 8; 32 would do")
    assert "invalid_field (width): width: must be" in text(explain([event(State.REFUSED, reason=reason)]))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.004, "0.00 s"), (9.876, "9.88 s"), (45.67, "45.7 s"), (110.0, "110 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(value: float, words: str) -> None:
    assert seconds(value) == words
