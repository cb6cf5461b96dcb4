from __future__ import annotations

from xml.etree import ElementTree

import pytest

from include.demo.charts import WIDTH, Mark, Point, curve_chart, nice_step, scatter_chart, timeline_chart, waits_chart

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("span", "step"), [(1.0, 0.2), (6.0, 1.0), (10.0, 2.0), (0.03, 0.005), (4000.0, 1000.0)])
def test_steps_are_round_numbers(span: float, step: float) -> None:
    assert nice_step(span) == pytest.approx(step)


def test_each_wait_is_a_dot_inside_the_chart() -> None:
    waits = {"high": [0.1, 0.1, 0.1, 2.0], "normal": [], "low": [30.0]}
    chart = ElementTree.fromstring(waits_chart(waits))
    dots = chart.findall(f".//{SVG}circle")
    assert len(dots) == 5
    assert all(0 < float(dot.attrib["cx"]) < WIDTH for dot in dots)
    high = [dot for dot in dots if dot.attrib["class"] == "lane-high"]
    assert len({(dot.attrib["cx"], dot.attrib["cy"]) for dot in high}) == 4, "equal waits are stacked, not hidden behind each other"


def test_no_waits_at_all_is_a_chart_too() -> None:
    chart = ElementTree.fromstring(waits_chart({"high": [], "normal": [], "low": []}))
    assert chart.findall(f".//{SVG}circle") == []


def test_a_row_of_ticks_stands_above_the_dots() -> None:
    points = [Point(x=1.0, y=4.0, kind="lane-low", title="a < b")]
    rows = {"lane full": [Point(x=2.0, y=0.0, kind="refused", title="x"), Point(x=9.0, y=0.0, kind="refused", title="y")]}
    chart = ElementTree.fromstring(scatter_chart(points, rows, "waits"))
    ticks = [line for line in chart.findall(f".//{SVG}line") if line.attrib["class"] == "refused"]
    dot = chart.find(f".//{SVG}circle")
    assert dot is not None and all(float(tick.attrib["y2"]) < float(dot.attrib["cy"]) for tick in ticks)
    assert len(ticks) == 2 and all(float(tick.attrib["x1"]) <= WIDTH for tick in ticks)


def test_marks_and_titles_are_escaped_and_inside() -> None:
    points = [Point(x=number, y=0.5, kind="version-a", title="<&>") for number in range(20)]
    chart = ElementTree.fromstring(timeline_chart(points, [Mark(x=18.0, label="a < b"), Mark(x=1.0, label="c")], "x & y"))
    texts = [text.text for text in chart.findall(f".//{SVG}text")]
    assert "a < b" in texts and chart.attrib["aria-label"] == "x & y"
    assert all(float(line.attrib["x1"]) <= WIDTH for line in chart.findall(f".//{SVG}line"))


def test_a_flat_curve_does_not_divide_by_zero() -> None:
    chart = ElementTree.fromstring(curve_chart({"loss": [(1, 0.5), (2, 0.5), (3, 0.5)]}, "loss"))
    assert chart.find(f".//{SVG}polyline") is not None
