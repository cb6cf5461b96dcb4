"""Verdicts by age, what a form may say, and how a plan is shown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.config import Settings
from include.lifecycle.maintenance import files
from include.lifecycle.maintenance.ancestry import Needed
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.items import DAY_S, Item, Keeper, Plan, StillNeededError, judged
from include.lifecycle.maintenance.limits import Limits
from include.lifecycle.maintenance.page import IN_LOG, log_lines, page, size
from include.lifecycle.maintenance.registry import delete_artifacts
from include.lifecycle.maintenance.steps import plan_of, remove_all

LIMITS = Limits(grace_days=2.0)


@pytest.mark.parametrize(
    ("days", "limit", "needed", "goes", "why"),
    [
        (1.0, 0.0, "", False, "younger than the 2 days of grace"),
        (5.0, 10.0, "", False, "younger than 10 days"),
        (11.0, 10.0, "", True, "older than 10 days, and nothing needs it"),
        (1000.0, None, "", False, "no limit is set"),
        (1000.0, 0.0, "champion of emoji", False, "champion of emoji"),
    ],
)
def test_the_verdict(days: float, limit: float | None, needed: str, goes: bool, why: str) -> None:
    item = judged(LIMITS, "dataset version", "a", 1, days * DAY_S, limit, needed)
    assert (item.goes, item.why) == (goes, why)


@pytest.mark.parametrize(("name", "value"), [("dataset_days", -1), ("keep_datasets", 1.5), ("event_days", 0), ("grace_days", float("nan"))])
def test_a_limit_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        Limits.of({name: value, "apply": True})


class Shelf(Keeper):
    """Things by name; one is in use, one breaks."""

    kind = "thing"

    def __init__(self, context: Context) -> None:
        self.there = {"a": True, "b": True, "used": True, "broken": True, "kept": False}

    def items(self) -> Iterator[Item]:
        yield from (Item(kind=self.kind, name=name, bytes=5, age_s=0.0, goes=goes, why="any") for name, goes in self.there.items())

    def item(self, name: str) -> Item | None:
        return next((item for item in self.items() if item.name == name), None)

    def remove(self, item: Item) -> None:
        if item.name == "used":
            raise StillNeededError("in use")
        if item.name == "broken":
            raise OSError("disk")
        del self.there[item.name]


class Away(Shelf):
    kind = "other"

    def items(self) -> Iterator[Item]:
        raise ConnectionError("no answer")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(settings=Settings(_env_file=None, home=tmp_path), limits=LIMITS, needed=Needed)


def test_a_keeper_that_cannot_look_does_not_hide_the_others(context: Context) -> None:
    plan = plan_of(context, [Away, Shelf])
    assert plan.problems == ("Away: no answer",)
    assert [item.name for item in plan.going] == ["a", "b", "used", "broken"] and plan.bytes == 20


def test_each_thing_gets_an_outcome_of_its_own(context: Context) -> None:
    plan, shelf, lines = plan_of(context, [Shelf]), Shelf(context), []
    del shelf.there["a"]
    shelf.there["b"] = False
    outcomes = {item.name: outcome for item, outcome in remove_all(plan, [shelf], lines.append)}
    assert outcomes == {"a": "gone already", "b": "stays: any", "used": "stays: in use", "broken": "failed: disk"}
    assert len(lines) == 4


def test_a_long_plan_is_cut_in_the_log_and_whole_on_the_page() -> None:
    items = tuple(judged(LIMITS, "preview", f"previews/<{number}>", 1500, 9 * DAY_S, 1.0) for number in range(IN_LOG + 5))
    plan = Plan(made_at=time.time(), limits=LIMITS, items=items, problems=("topics: <away>",))
    lines = list(log_lines(plan))
    assert lines[-1] == f"{IN_LOG + 5} of {IN_LOG + 5} things go, which frees 308 kB."
    assert "and 5 more, which the page in MLflow lists" in lines
    shown = page(plan)
    assert shown.count("<td>preview previews/&lt;") == IN_LOG + 5
    assert "<away>" not in shown and "&lt;away&gt;" in shown
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e12, "2.5e+03 GB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_a_directory_is_as_old_as_its_newest_file(tmp_path: Path) -> None:
    for name, days in (("old", 9), ("new", 3), ("lock", 0)):
        (tmp_path / name).write_bytes(b"12345")
        then = time.time() - days * DAY_S
        os.utime(tmp_path / name, (then, then))
    assert files.age_of(tmp_path, besides=frozenset({"lock"})) == pytest.approx(3 * DAY_S, abs=60)
    assert files.size_of(tmp_path) == 15


@pytest.mark.parametrize(
    "address", ["mlflow-artifacts:/", "mlflow-artifacts:/1/run", "mlflow-artifacts:/1/../x/y", "s3://bucket/1/run/artifacts/model"]
)
def test_no_more_than_an_artifact_can_be_deleted(address: str) -> None:
    with pytest.raises(ValueError, match="is not something that the MLflow server keeps"):
        delete_artifacts("http://127.0.0.1:1", address)
