"""What counts for which version."""

from __future__ import annotations

from typing import Any

import pytest

from include.contracts.events import ImageResult, State, StatusEvent, Usage, event_id
from include.contracts.feedback import Rating
from include.contracts.workers import Credit
from include.lifecycle.canary_figures import Tally

IMAGE = ImageResult(index=0, key="images/t/r/0.png", sha256="0" * 64, size_bytes=1, width=8, height=8, seed=1, media_type="image/png")


def ended(name: str, version: str | None, state: State = State.COMPLETED, **fields: Any) -> StatusEvent:
    usage = Usage(gpu_seconds=2.0, render_s=2.0, steps=4, cache_hits=fields.pop("cache_hits", ()))
    done = {"images": (IMAGE, IMAGE), "usage": usage} if state is State.COMPLETED else {}
    given = {"model": "emoji", "tenant": "t", **done, **fields}
    return StatusEvent(event_id=event_id(name, state, 0), request_id=name, state=state, at=1.0, model_version=version, **given)


def rating(name: str, stars: int, *, tenant: str = "t", by_whom: str = "") -> Rating:
    return Rating(request_id=name, tenant=tenant, rating=stars, by_whom=by_whom, at=2.0)


@pytest.fixture
def tally() -> Tally:
    return Tally("emoji", champion="1", challenger="2")


def test_ends_count_for_their_version_once(tally: Tally) -> None:
    for event in (ended("a", "1"), ended("b", "2"), ended("b", "2"), ended("c", "2", State.FAILED)):
        tally.take_event(event)
    found = tally.figures(5.0)
    assert (found.champion.completed, found.champion.failed, found.champion.seconds) == (1, 0, [1.0])
    assert (found.challenger.completed, found.challenger.failed, found.elapsed_s) == (1, 1, 5.0)


@pytest.mark.parametrize(
    "event",
    [
        ended("a", "3"),
        ended("a", None, State.FAILED),
        ended("a", "2", model="other"),
        ended("a", "2", State.CANCELLED),
        ended("a", "2", State.PROCESSING),
    ],
)
def test_what_says_nothing_of_either_counts_for_none(tally: Tally, event: StatusEvent) -> None:
    tally.take_event(event)
    assert tally.figures(0).challenger.finished == tally.figures(0).champion.finished == 0


@pytest.mark.parametrize("fields", [{"cache_hits": ("near",)}, {"trace": {"cached": True}}])
def test_what_a_cache_answered_is_finished_but_not_measured(tally: Tally, fields: dict[str, Any]) -> None:
    tally.take_event(ended("a", "2", **fields))
    assert (tally.figures(0).challenger.completed, tally.figures(0).challenger.seconds) == (1, [])


def test_the_last_rating_of_each_person_counts_for_the_version_that_rendered(tally: Tally) -> None:
    tally.take_event(ended("a", "2"))
    for one in (rating("a", 1), rating("a", 4), rating("a", 2, by_whom="bob"), rating("a", 1, tenant="x"), rating("unknown", 1)):
        tally.take_rating(one)
    assert sorted(tally.figures(0).challenger.ratings) == [2, 4]
    assert tally.figures(0).champion.ratings == []


def test_a_worker_that_refuses_the_challenger_is_named(tally: Tally) -> None:
    for worker, refused in (("w-1", ("emoji/2",)), ("w-1", ("emoji/2",)), ("w-2", ("emoji/1", "other/2"))):
        tally.take_credit(Credit(worker_id=worker, incarnation="i", cell="c", pool="p", at=1.0, refused_models=refused))
    assert tally.figures(0).refusals == ("w-1",)
