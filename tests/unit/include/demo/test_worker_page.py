from __future__ import annotations

import json

import pytest
from rich.console import Console

from include.contracts.events import State
from include.demo.finish import finish
from include.demo.outcome import Outcome
from include.demo.worker_acts import was_on
from include.demo.worker_figures import acts_in_words, worker_figures
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import completed
from tests.unit.include.demo.test_page import Page
from tests.unit.include.demo.worker_stage import KILLED_AT, Script


@pytest.fixture
def script(store: ObjectStore) -> Script:
    return Script(store)


def test_a_cancelled_render_went_on_for_less_than_a_step(script: Script) -> None:
    found = worker_figures(script.acts())["cancelled"]
    assert (found["state"], found["reported_step"], found["worker"]) == (State.CANCELLED, 40, "worker-1")
    assert found["went_on_s"] == pytest.approx(0.03)
    assert found["went_on_steps"] == pytest.approx(0.6)


def test_what_was_on_the_killed_worker_is_told_from_what_was_not(script: Script) -> None:
    found = worker_figures(script.acts())["killed"]
    struck, spared = found["requests"]
    assert (struck["was_on_it"], struck["workers"], struck["attempts"]) == (True, ["worker-0", "worker-1"], 2)
    assert (struck["retried_s"], struck["completed_s"]) == (6.5, 11.0)
    assert (spared["was_on_it"], spared["workers"], spared["retried_s"]) == (False, ["worker-1"], None)
    assert (found["retried"], found["lost"], found["terminal_events"]) == (1, 0, 2)


@pytest.mark.parametrize(
    ("at", "worker"), [(KILLED_AT, "worker-0"), (KILLED_AT + 7, ""), (KILLED_AT + 8, "worker-1"), (KILLED_AT + 12, "")]
)
def test_a_request_is_on_a_worker_from_its_dispatch_until_it_is_taken_back_or_over(script: Script, at: float, worker: str) -> None:
    story = script.acts().crash.stories[0]
    assert [name for name in ("worker-0", "worker-1") if was_on(story, name, at)] == ([worker] if worker else [])


def test_words(script: Script) -> None:
    words = acts_in_words(script.acts())
    assert words == "2 previews; cancelled, stopped 0.6 steps later; worker-0 killed with 1 on it, 2 of 2 completed"


def test_the_page_shows_previews_and_the_way_of_each_request(outcome: Outcome, script: Script) -> None:
    outcome.workers = script.acts()
    assert finish(outcome, Console(quiet=True)) == 0
    out = outcome.options.out
    text = (out / "index.html").read_text()
    page = Page(text)
    previews = [str(image["src"]) for image in page.images if "preview" in str(image["src"])]
    assert previews == ["images/preview-test-watched-032.jpg", "images/preview-test-watched-064.jpg"]
    assert all(image["alt"] and (out / str(image["src"])).is_file() for image in page.images)
    assert "worker-0 → worker-1" in text and "started anew while it held the lease" in text
    assert json.loads((out / "report.json").read_text())["workers"]["killed"]["worker"] == "worker-0"


def test_acts_that_went_wrong_have_a_page_too(outcome: Outcome, script: Script) -> None:
    script.frames.clear()
    script.render, script.back_s = None, None
    for name in ("test-watched", "test-crash-0"):
        script.seen.events[name].clear()
    script.seen.events["test-cancelled"] = [completed(script.cancelled, script.store)]
    outcome.workers = script.acts()
    assert finish(outcome, Console(quiet=True)) == 0  # judging them is another's business
    assert "was to be cancelled and ended as" in (outcome.options.out / "index.html").read_text()


def test_without_the_acts_the_page_says_nothing_of_them(outcome: Outcome) -> None:
    finish(outcome, Console(quiet=True))
    page = (outcome.options.out / "index.html").read_text()
    assert 'id="workers"' not in page and "lost a worker" not in page
