from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from include.config import Settings
from include.demo.finish import finish
from include.demo.options import DemoOptions
from include.demo.outcome import Outcome
from include.demo.page import seconds
from include.demo.steps import StepFailedError, Steps


class Page(HTMLParser):
    """Collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        if tag == "a":
            self.links.append(found.get("href") or "")
        self.loaded += [found.get("src") or ""] if tag in ("script", "iframe") else []
        self.loaded += [found.get("href") or ""] if tag == "link" else []


def write(outcome: Outcome) -> tuple[int, str, dict[str, object]]:
    code = finish(outcome, Console(quiet=True))
    out = outcome.options.out
    return code, (out / "index.html").read_text(), json.loads((out / "report.json").read_text())


def test_all_well_is_exit_0_and_the_report_has_the_figures(outcome: Outcome) -> None:
    code, _, report = write(outcome)
    assert code == 0
    assert (report["ok"], report["requests"]["total"], report["requests"]["as_expected"]) == (True, 60, 60)  # type: ignore[index]
    lanes = report["lanes"]
    assert isinstance(lanes, dict) and lanes["high"]["count"] > lanes["low"]["count"] > 0
    assert lanes["high"]["wait_p50_s"] <= lanes["high"]["wait_p99_s"]
    assert report["rollback"]["seconds"] == 1.42  # type: ignore[index]
    assert report["rollback"]["failed"] == 0  # type: ignore[index]
    assert {version: row["count"] for version, row in report["rollback"]["versions"].items()} == {"1": 22, "2": 9}  # type: ignore[index]
    assert len(report["bad"]) == 20 and all(entry["ok"] for entry in report["bad"])  # type: ignore[arg-type, union-attr]
    assert [step["name"] for step in report["steps"]][-1] == "Write the page and the report"  # type: ignore[union-attr, index]


def test_the_page_is_self_contained_and_each_image_has_words(outcome: Outcome) -> None:
    _, text, _ = write(outcome)
    page = Page(text)
    assert len(page.images) > 60
    for image in page.images:
        assert image["alt"]
        assert (outcome.options.out / str(image["src"])).is_file()
    assert page.loaded == []
    assert not re.search(r"url\(|@import", text)


def test_the_charts_are_well_formed(outcome: Outcome) -> None:
    _, text, _ = write(outcome)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 2
    for chart in charts:
        assert ElementTree.fromstring(chart).attrib["aria-label"]


def test_what_a_producer_wrote_is_text_not_markup(outcome: Outcome) -> None:
    assert outcome.traffic is not None
    verdict = outcome.traffic.verdicts[0]
    object.__setattr__(verdict, "detail", "<script>alert(1)</script>")
    object.__setattr__(verdict, "ok", False)
    outcome.faults.append("<b>bold</b>")
    _, text, _ = write(outcome)
    assert "<script>alert" not in text and "<b>bold" not in text
    assert "&lt;script&gt;alert" in text


def test_a_fault_is_exit_1_and_on_the_page(outcome: Outcome) -> None:
    outcome.faults.append("run-007: lost")
    code, text, report = write(outcome)
    assert (code, report["ok"]) == (1, False)
    assert "run-007: lost" in text


def test_a_demo_that_failed_early_has_a_report_too(settings: Settings, tmp_path: Path) -> None:
    outcome = Outcome(settings=settings, options=DemoOptions(out=tmp_path / "demo"), steps=Steps(Console(quiet=True)))
    with pytest.raises(StepFailedError), outcome.steps.step("Train a model"):
        raise StepFailedError("train_model failed in train")
    outcome.faults.append("train_model failed in train")
    code, text, report = write(outcome)
    assert code == 1
    assert "train_model failed in train" in text
    assert [step["ok"] for step in report["steps"]] == [False, True]  # type: ignore[union-attr, index]


def test_a_second_demo_replaces_the_first_ones_images(outcome: Outcome) -> None:
    write(outcome)
    stray = outcome.options.out / "images" / "of-an-earlier-run.png"
    stray.write_bytes(b"x")
    write(outcome)
    assert not stray.exists()


@pytest.mark.parametrize(("value", "words"), [(None, "-"), (0.123, "0.12 s"), (12.3, "12 s"), (331, "5 min 31 s")])
def test_seconds(value: float | None, words: str) -> None:
    assert seconds(value) == words


def test_the_canary_and_the_variants_are_shown(outcome: Outcome) -> None:
    _, text, report = write(outcome)
    assert "no more failures than the champion" in text and "canary: 50 %" in text
    assert "not available: no GPU" in text and 'href="compression.html"' in text
    assert (outcome.options.out / "compression.html").read_text() == "<h1>Variants</h1>"
    assert report["rollback"]["canary"] == {"share": 0.5, "seconds": 4.2, "requests": {"1": 7, "2": 0}}  # type: ignore[index]
    assert [entry["canary"] for entry in report["promotions"]] == ["no canary", "no more failures than the champion"]  # type: ignore[union-attr, index, attr-defined]


def test_without_a_sweep_nothing_is_said_of_variants(outcome: Outcome) -> None:
    outcome.sweep = None
    code, text, report = write(outcome)
    assert code == 0 and report["compression"] is None and "Smaller and faster" not in text
