from __future__ import annotations

from xml.etree import ElementTree

import pytest

from include.demo.charts import WIDTH, Mark, Point, curve_chart, nice_step, timeline_chart, waits_chart

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
    ElementTree.fromstring(waits_chart({"high": [], "normal": [], "low": []}))


def test_marks_and_titles_are_escaped_and_inside() -> None:
    points = [Point(x=number, y=0.5, kind="version-a", title="<&>") for number in range(20)]
    chart = ElementTree.fromstring(timeline_chart(points, [Mark(x=18.0, label="a < b"), Mark(x=1.0, label="c")], "x & y"))
    texts = [text.text for text in chart.findall(f".//{SVG}text")]
    assert "a < b" in texts and chart.attrib["aria-label"] == "x & y"
    assert all(float(line.attrib["x1"]) <= WIDTH for line in chart.findall(f".//{SVG}line"))


def test_a_flat_curve_does_not_divide_by_zero() -> None:
    chart = ElementTree.fromstring(curve_chart({"loss": [(1, 0.5), (2, 0.5), (3, 0.5)]}, "loss"))
    assert chart.find(f".//{SVG}polyline") is not None
