from __future__ import annotations

from rich.console import Console

from include.contracts.events import Lane
from include.demo.burst import Burst
from include.demo.burst_view import BARS, BurstNow, burst_line, burst_view, degraded_words, refused_words, sparkline
from include.demo.observer import WorkerView


def now(burst: Burst) -> BurstNow:
    return BurstNow(
        fates=burst.fates,
        planned=len(burst.fates),
        seconds=burst.seconds,
        base_shares=burst.policy.lane_floor,
        moves=burst.moves,
        workers=[WorkerView("worker-0", "standard")],
        lag=3,
    )


def drawn(burst: Burst) -> str:
    console = Console(width=160, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(burst_view(now(burst)))
    return captured.get()


def test_the_table_tells_shares_degradation_deferral_and_refusals(burst: Burst) -> None:
    text = drawn(burst)
    assert f"{burst.moves[-1].after[Lane.LOW]:.2f}" in text
    for words in (
        "degraded",
        "of 12 steps",
        "wait before the scheduler (3 of them in Kafka)",
        "rate limited, come back in",
        "overloaded",
        "worker-0",
    ):
        assert words in text
    assert burst.moves[-1].reason.split(":")[0] in " ".join(text.split())


def test_a_line_for_a_log_says_it_in_short(burst: Burst) -> None:
    line = burst_line(now(burst))
    assert f"over {len(burst.fates)}" in line and "median waits: high 0." in line and "\n" not in line


def test_the_bars_of_the_high_lane_stay_low_while_those_of_the_low_lane_rise(burst: Burst) -> None:
    highest = max(fate.wait_s or 0 for fate in burst.fates)
    high, low = (sparkline(burst.fates, lane, highest).replace(" ", "") for lane in (Lane.HIGH, Lane.LOW))
    assert set(high) == {BARS[0]}
    assert low[-1] == BARS[-1]


def test_nothing_yet_is_said_too() -> None:
    assert (degraded_words([]), refused_words([]), sparkline([], Lane.HIGH, 0.0)) == ("none", "none", "")
