from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

from include.contracts.events import Lane, State
from include.demo.burst import Burst
from include.demo.burst_figures import burst_figures
from include.demo.burst_judging import high_lane
from include.demo.burst_page import KINDS, burst_chart, examples
from include.demo.charts import WIDTH
from include.demo.finish import finish
from include.demo.outcome import Outcome

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def with_burst(outcome: Outcome, burst: Burst) -> Outcome:
    outcome.burst, outcome.high = burst, high_lane(burst, [0.05, 0.1])
    return outcome


def test_each_dispatch_is_a_dot_and_each_refusal_a_tick(burst: Burst) -> None:
    chart = ElementTree.fromstring(burst_chart(burst))
    dots, ticks = chart.findall(f".//{SVG}circle"), [line for line in chart.findall(f".//{SVG}line") if line.attrib["class"] == "refused"]
    assert len(dots) == sum(fate.wait_s is not None for fate in burst.fates)
    assert len(ticks) == sum(fate.refusal is not None for fate in burst.fates)
    assert {dot.attrib["class"] for dot in dots} >= {"lane-high", "lane-normal", "lane-low", "lane-normal degraded"}
    assert all(0 < float(dot.attrib["cx"]) < WIDTH for dot in dots)
    assert dots[-1].attrib["class"].startswith("lane-high"), "the high lane lies on top"


def test_one_request_of_each_kind_is_explained(burst: Burst) -> None:
    found = examples(burst)
    assert list(found) == [kind for kind in KINDS if kind != "Retried"]
    steps = {kind: [step.title for step in explanation.steps] for kind, (_, explanation) in found.items()}
    assert steps["Admitted at once"] == ["Queued", "Dispatched", "Completed"]
    assert steps["Refused by its tenant's quota"] == ["Refused", "Dead letter"]
    assert found["Deferred"][0].deferred and found["Degraded"][0].degraded


def test_the_page_shows_the_burst(with_burst: Outcome) -> None:
    assert finish(with_burst, Console(quiet=True)) == 0
    page = (with_burst.options.out / "index.html").read_text()
    assert "A burst of five times" in page
    assert page.count("<details") == len(KINDS) - 1
    assert len(re.findall(r"<svg.*?</svg>", page, re.DOTALL)) == 3
    assert with_burst.burst is not None
    for move in with_burst.burst.moves:
        assert move.reason in page


def test_the_report_has_the_figures(with_burst: Outcome) -> None:
    finish(with_burst, Console(quiet=True))
    figures = json.loads((with_burst.options.out / "report.json").read_text())["burst"]
    assert figures["offered"] == figures["completed"] + sum(row["count"] for row in figures["refused"].values())
    assert figures["capacity"]["offered_times"] == pytest.approx(5, abs=0.2)
    assert figures["shares"]["after"]["low"] > figures["shares"]["before"]["low"]
    assert figures["high_lane"]["burst_p90_s"] <= figures["high_lane"]["bound_p90_s"]
    assert sum(figures["lanes"][lane]["count"] for lane in Lane) == figures["admitted"]
    assert figures["tenants"]["initech"]["refused"]["rate_limited"] == figures["refused"]["rate_limited"]["count"]


def test_a_burst_that_broke_off_has_figures_and_a_page_too(burst: Burst, outcome: Outcome) -> None:
    cut = Burst(capacity=burst.capacity, policy=burst.policy, started_at=burst.started_at, sending_s=15, seconds=1.0, fates=burst.fates[:1])
    figures = burst_figures(cut, high_lane(cut, []))
    assert figures["offered"] == 1 and figures["degraded"]["steps_share_mean"] is None and figures["refused"] == {}
    assert set(figures["states"]) <= set(State)
    outcome.burst, outcome.high = cut, high_lane(cut, [])
    assert finish(outcome, Console(quiet=True)) == 0


def test_without_a_burst_the_page_says_nothing_of_one(outcome: Outcome) -> None:
    finish(outcome, Console(quiet=True))
    page = (outcome.options.out / "index.html").read_text()
    assert 'id="burst"' not in page and "stood a burst" not in page
