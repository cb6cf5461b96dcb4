"""A version's variants are built, loaded by other processes, measured and judged: through the real scheduler and the real MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.lifecycle.airflow_api import DagRunRefusedError
from include.lifecycle.tracking import client_of
from include.registry.client import RegistryClient
from models.compression.plan import SweepPlan
from tests.integration.airflow.conftest import Lifecycle

#: With nothing but quality forbidden, for times of a network that takes a millisecond say nothing.
SWEEP = {"images": 8, "repeats": 3, "steps": 2, "threads": 1, "slower_pct": 1000, "quality_worse_pct": 1000, "images_differ_pct": 100}


@pytest.fixture(scope="module")
def swept(lifecycle: Lifecycle, version: dict[str, Any]) -> dict[str, Any]:
    """What a sweep over three variants, one of which this machine can't have, reported."""
    conf = {"version": version["version"], "variants": ["bf16", "int8", "distilled"], "register_offered": True, **SWEEP}
    run = lifecycle.run("compress_model", **conf)
    tasks = [task for task in lifecycle.api.task_states("compress_model", run.run_id) if task.task_id == "measure_variant"]
    assert [task.state for task in tasks] == ["success"] * 4
    return dict(lifecycle.result(run, "report"))


def test_every_variant_has_a_verdict(swept: dict[str, Any]) -> None:
    assert list(swept["verdicts"]) == ["fp32", "bf16", "int8", "distilled"]
    assert swept["verdicts"]["bf16"].startswith("offered: ")
    assert swept["verdicts"]["distilled"] == "not available: emoji has no few-step student; run train_model with task distill_steps"
    figures = {row["variant"]: row["figures"] for row in swept["table"]}
    assert figures["bf16"]["network_mb"] < 0.6 * figures["fp32"]["network_mb"]
    assert figures["distilled"] is None


def test_the_runs_of_mlflow_hold_table_plot_page_and_a_run_for_each_variant(lifecycle: Lifecycle, swept: dict[str, Any]) -> None:
    client = client_of(lifecycle.settings)
    parent = client.get_run(swept["mlflow_run_id"])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {f"compression.{kind}" for kind in ("json", "png", "html")}
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in children} == {"fp32", "bf16", "int8", "distilled"}
    measured = next(run for run in children if run.info.run_name == "bf16")
    assert measured.data.metrics["p50_s"] > 0
    assert "differ_pct" in measured.data.metrics


def test_the_version_says_what_is_offered_and_what_may_be_served_is_registered(
    lifecycle: Lifecycle, version: dict[str, Any], swept: dict[str, Any]
) -> None:
    with RegistryClient(lifecycle.settings.mlflow) as client:
        summary = json.loads(client.version("emoji", version["version"]).tags["atelier.compression"])
        (made,) = client.versions("emoji-bf16")
    assert "bf16" in summary["offered"]
    assert summary["run_id"] == swept["mlflow_run_id"]
    assert swept["registered"] == ["emoji-bf16/1"]
    assert made.tags["atelier.compressed_from"] == f"emoji/{version['version']}"


def test_what_was_measured_is_not_measured_again(lifecycle: Lifecycle, version: dict[str, Any], swept: dict[str, Any]) -> None:
    run = lifecycle.run("compress_model", version=version["version"], variants=["int8"], **SWEEP)
    plan = SweepPlan.read(Path(lifecycle.result(run, "report")["report"]).parent)
    found = {name: plan.row(name) for name in plan.variants}
    assert [name for name, row in found.items() if row is not None and row.known] == ["fp32", "int8"]


def test_an_unknown_variant_is_refused_with_the_choices(lifecycle: Lifecycle) -> None:
    before = len(lifecycle.api.runs("compress_model"))
    with pytest.raises(DagRunRefusedError, match=r"variants.*int3.*onnx"):
        lifecycle.api.trigger("compress_model", {"variants": ["int3"]})
    assert len(lifecycle.api.runs("compress_model")) == before
