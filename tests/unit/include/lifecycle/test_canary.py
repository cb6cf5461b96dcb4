"""The verdict on a canary, from figures alone."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from include.lifecycle.canary import Arm, CanaryPolicy, Decision, Figures, Verdict, judge, quantile, wilson_bounds

POLICY = CanaryPolicy(canary_min_requests=50, canary_minutes=10)


def arm(version: str, completed: int = 100, failed: int = 0, seconds: float = 1.0, ratings: tuple[int, ...] = ()) -> Arm:
    spread = [seconds * (0.9 + 0.2 * number / max(1, completed - 1)) for number in range(completed)]
    return Arm(version=version, completed=completed, failed=failed, seconds=spread, ratings=list(ratings))


def verdict(
    policy: CanaryPolicy = POLICY, *, old: dict[str, Any] | None = None, minutes: float = 1.0, refusals: tuple[str, ...] = (), **new: Any
) -> Verdict:
    figures = Figures(champion=arm("1", **(old or {})), challenger=arm("2", **new), elapsed_s=60 * minutes, refusals=refusals)
    return judge(figures, policy)


def test_as_good_as_the_champion_it_is_promoted_with_what_was_measured() -> None:
    found = verdict()
    assert found.decision is Decision.PROMOTE
    assert found.reasons[0] == "0 of 100 failed (0.0%) against 0 of 100 (0.0%), 2.0% more are allowed"
    assert found.reasons[1] == "median 1 s an image against 1 s is +0%, +50% are allowed"
    assert len(found.reasons) == 3


def test_better_than_the_champion_it_is_promoted() -> None:
    assert verdict(old={"failed": 20, "seconds": 3.0, "ratings": (2,) * 9}, ratings=(5,) * 9).decision is Decision.PROMOTE


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"completed": 10, "failed": 40}, "40 of 50 failed (80.0%)"),
        ({"seconds": 3.0}, "median 3 s an image against 1 s is +200%"),
        ({"ratings": (1, 1, 2, 1, 1, 2, 1, 1)}, "rated 1.25 by 8 against 4.50 by 8"),
    ],
)
def test_worse_beyond_doubt_it_goes_back_at_once(new: dict[str, Any], words: str) -> None:
    found = verdict(old={"ratings": (5, 4) * 4}, minutes=0.1, **new)
    assert found.decision is Decision.BACK
    assert any(words in reason for reason in found.reasons)


def test_a_few_failures_are_no_proof_before_the_time_is_over() -> None:
    new = {"completed": 47, "failed": 3}
    assert verdict(**new).decision is Decision.WAIT
    assert verdict(minutes=10.0, **new).decision is Decision.BACK
    assert verdict(CanaryPolicy(canary_min_requests=50, canary_error_pct=10), **new).decision is Decision.PROMOTE


def test_the_first_failure_of_all_takes_nothing_back() -> None:
    assert verdict(completed=0, failed=1, minutes=0.1).decision is Decision.WAIT


def test_a_worker_that_refuses_it_ends_it_whatever_else_is_known() -> None:
    found = verdict(refusals=("w-1", "w-2"))
    assert (found.decision, found.reasons) == (Decision.BACK, ("worker w-1 won't serve it", "worker w-2 won't serve it"))


def test_too_few_requests_are_waited_for() -> None:
    found = verdict(completed=49)
    assert (found.decision, found.reasons) == (
        Decision.WAIT,
        ("49 requests on the challenger and 100 on the champion are finished, of 50 wanted of each",),
    )
    assert verdict(old={"completed": 49}).decision is Decision.WAIT


@pytest.mark.parametrize(("wish", "decision"), [("back", Decision.BACK), ("promote", Decision.PROMOTE)])
@pytest.mark.parametrize("completed", [0, 49])
def test_without_enough_traffic_the_policy_says_what_becomes_of_it(wish: str, decision: Decision, completed: int) -> None:
    policy = CanaryPolicy(canary_min_requests=50, canary_minutes=10, canary_no_traffic=wish)  # type: ignore[arg-type]
    found = verdict(policy, completed=completed, minutes=10.0)
    assert found.decision is decision
    assert found.reasons[0].startswith(f"{completed} requests on the challenger") and f"canary_no_traffic is {wish}" in found.reasons[0]


def test_no_traffic_at_all_on_either_is_waited_for_and_then_taken_back() -> None:
    nothing = {"completed": 0}
    assert verdict(old=nothing, **nothing).decision is Decision.WAIT
    assert verdict(old=nothing, minutes=10.0, **nothing).decision is Decision.BACK


def test_promotion_without_traffic_does_not_forgive_what_was_measured() -> None:
    policy = CanaryPolicy(canary_min_requests=50, canary_minutes=10, canary_no_traffic="promote")
    assert verdict(policy, completed=20, seconds=1.6, minutes=10.0).decision is Decision.BACK


def test_a_slow_tail_is_found_where_the_median_is_the_same() -> None:
    slow = arm("2", completed=600)
    slow.seconds[-60:] = [9.0] * 60
    found = judge(Figures(champion=arm("1", completed=600), challenger=slow, elapsed_s=1.0), POLICY)
    assert found.decision is Decision.BACK and "95th percentile" in found.reasons[0]


def test_few_ratings_say_nothing() -> None:
    assert verdict(old={"ratings": (5,) * 4}, ratings=(1,) * 4).decision is Decision.PROMOTE


def test_images_from_caches_say_nothing_of_the_speed() -> None:
    new, old = arm("2"), arm("1")
    new.seconds.clear()
    assert len(judge(Figures(champion=old, challenger=new, elapsed_s=1.0), POLICY).reasons) == 1


@pytest.mark.parametrize(("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)])
def test_wilson_bounds_are_those_of_the_tables(count: int, of: int, low: float, high: float) -> None:
    """Two-sided 95 %, as binom.confint and statsmodels give them."""
    assert wilson_bounds(count, of, 1.959964) == pytest.approx((low, high), abs=5e-4)


def test_quantile_bounds_hold_as_often_as_they_promise() -> None:
    chance = random.Random(7)
    held = [quantile([chance.expovariate(1.0) for _ in range(60)], 0.5, 1.645) for _ in range(600)]
    truth = math.log(2)
    assert sum(low <= truth for _, low, _ in held) / 600 > 0.93
    assert sum(high >= truth for _, _, high in held) / 600 > 0.93


def test_of_equal_versions_hardly_any_is_taken_back_however_often_one_looks() -> None:
    chance, lost = random.Random(3), 0
    for _ in range(60):
        old, new = Arm(version="1"), Arm(version="2")
        decision = Decision.WAIT
        for number in range(400):
            for one in (old, new) if number % 2 else (old,):
                if chance.random() < 0.05:
                    one.failed += 1
                else:
                    one.completed += 1
                    one.seconds.append(chance.lognormvariate(0, 0.3))
            if number % 10 == 9 and decision is Decision.WAIT:
                decision = judge(Figures(champion=old, challenger=new, elapsed_s=1.0), POLICY).decision
        lost += decision is Decision.BACK
    assert lost <= 3


@pytest.mark.parametrize(
    "field", [{"canary_share": 1.0}, {"canary_minutes": 0}, {"canary_min_requests": 0}, {"canary_no_traffic": "perhaps"}, {"share": 0.1}]
)
def test_a_policy_out_of_range_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        CanaryPolicy(**field)
