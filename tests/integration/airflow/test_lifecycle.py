"""Images become a dataset version, that a model version, that the champion, and back: through the real scheduler and the real MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from include.lifecycle.airflow_api import APPROVE, REJECT, DagRunFailedError, DagRunRefusedError
from include.lifecycle.versions import FACTS_TAG, METRIC_TAG
from include.registry.aliases import get_alias
from include.registry.client import RegistryClient
from tests.integration.airflow.conftest import EVALUATION, TRAINING, Lifecycle
from tests.support.registry import register
from tests.support.waiting import wait_for

MODEL = "emoji"


def champion(lifecycle: Lifecycle) -> str | None:
    return get_alias(MODEL, "champion", uri=lifecycle.settings.mlflow)


def tags(lifecycle: Lifecycle, version: str) -> dict[str, str]:
    with RegistryClient(lifecycle.settings.mlflow) as client:
        return client.version(MODEL, version).tags


def made_elsewhere(lifecycle: Lifecycle, directory: Path, marks: Mapping[str, str] | None = None) -> str:
    """The number of a version that no run of this Airflow trained."""
    (directory / "model_index.json").write_text("{}")
    return register(directory, MODEL, lifecycle.settings.mlflow, marks).version


def task_states(lifecycle: Lifecycle, dag_id: str, run_id: str) -> dict[str, str]:
    return {task.label: task.state for task in lifecycle.api.task_states(dag_id, run_id)}


def test_the_dags_import(lifecycle: Lifecycle) -> None:
    assert lifecycle.api.import_errors() == {}


def test_a_prepared_dataset_is_published_and_the_newest(lifecycle: Lifecycle, dataset: dict[str, Any]) -> None:
    assert sum(dataset["counts"].values()) == 60
    assert Path(dataset["manifest"]).is_file()
    pointer = lifecycle.settings.home.resolve() / "datasets" / "newest.json"
    assert dataset["version"] in pointer.read_text()


def test_a_version_carries_its_lineage_and_its_measurements(lifecycle: Lifecycle, dataset: dict[str, Any], version: dict[str, Any]) -> None:
    found = tags(lifecycle, version["version"])
    assert found["atelier.dataset_digest"] == dataset["digest"]
    assert found["atelier.digest"] == version["digest"]
    assert float(found["atelier.eval.kernel_distance"]) > 0
    assert float(found["atelier.eval.size_mb"]) > 1


@pytest.mark.parametrize(
    ("dag_id", "conf", "name"),
    [
        ("prepare_dataset", {"limit": 0}, "limit"),
        ("prepare_dataset", {"size": 65}, "size"),
        ("prepare_dataset", {"source": "elsewhere"}, "source"),
        ("train_model", {"max_steps": -1}, "max_steps"),
        ("train_model", {"learning_rate": 2}, "learning_rate"),
        ("evaluate_model", {"steps": 201}, "steps"),
        ("promote_model", {"approve": "perhaps"}, "approve"),
        ("promote_model", {"slower_pct": -5}, "slower_pct"),
        ("promote_model", {"canary_share": 1}, "canary_share"),
        ("promote_model", {"canary_minutes": 0}, "canary_minutes"),
        ("rollback_model", {"to_version": "newest"}, "to_version"),
    ],
)
def test_a_parameter_out_of_range_is_refused_before_anything_runs(
    lifecycle: Lifecycle, dag_id: str, conf: dict[str, Any], name: str
) -> None:
    before = len(lifecycle.api.runs(dag_id))
    with pytest.raises(DagRunRefusedError, match=name):
        lifecycle.api.trigger(dag_id, conf)
    assert len(lifecycle.api.runs(dag_id)) == before


def test_bad_input_that_only_the_task_can_see_fails_at_once_with_the_field(lifecycle: Lifecycle) -> None:
    run = lifecycle.api.trigger("train_model", {"dataset_version": "no-such-version"})
    with pytest.raises(DagRunFailedError, match="dataset_version: there is no dataset version no-such-version"):
        lifecycle.api.wait("train_model", run.run_id, timeout_s=60)
    assert next(task for task in lifecycle.api.task_states("train_model", run.run_id) if task.task_id == "plan_training").try_number == 1


def test_promoting_a_version_that_was_not_evaluated_says_what_to_do(lifecycle: Lifecycle, tmp_path: Path) -> None:
    unmeasured = made_elsewhere(lifecycle, tmp_path)
    before = champion(lifecycle)
    with pytest.raises(DagRunFailedError, match=f"run evaluate_model with version {unmeasured} first"):
        lifecycle.run("promote_model", version=unmeasured, approve="yes")
    assert champion(lifecycle) == before


def test_approved_by_parameter_then_by_a_person_then_rolled_back(lifecycle: Lifecycle, version: dict[str, Any]) -> None:
    first = version["version"]
    run = lifecycle.run("promote_model", version=first, approve="yes", why="the first one", canary_share=0)
    others = dict.fromkeys(("gate", "challenge", "canary", "promote"), "success")
    assert task_states(lifecycle, "promote_model", run.run_id) == {**others, "approve": "skipped"}
    assert champion(lifecycle) == first
    assert tags(lifecycle, first)["atelier.promotion.why"] == "the first one"

    second = lifecycle.result(lifecycle.run("train_model", **TRAINING, seed=1), "register")["version"]
    lifecycle.run("evaluate_model", version=second, **EVALUATION)
    # Of two versions trained for four steps nothing but noise can be compared.
    limits = {"quality_worse_pct": 1000, "agreement_worse_pct": 1000, "memorised_more_points": 100, "slower_pct": 1000, "bigger_pct": 1000}
    limits["canary_share"] = 0
    for answer, expected in ((REJECT, first), (APPROVE, second)):
        waiting = lifecycle.api.trigger("promote_model", {"version": second, **limits})
        wait_for(
            lambda run_id=waiting.run_id: lifecycle.api.approvals("promote_model", run_id) == ["approve"],
            90,
            "the approval to be asked for",
        )
        assert champion(lifecycle) == first
        lifecycle.api.answer("promote_model", waiting.run_id, "approve", answer)
        lifecycle.api.wait("promote_model", waiting.run_id, timeout_s=90)
        assert champion(lifecycle) == expected
    recorded = tags(lifecycle, second)
    assert (recorded["atelier.promotion.from"], recorded["atelier.promotion.by"].lower()) == (first, "admin")

    lifecycle.run("rollback_model", why="it was better")
    assert champion(lifecycle) == first
    assert tags(lifecycle, first)["atelier.rollback.why"] == "it was better"


def test_a_version_worse_than_the_policy_allows_is_not_promoted(lifecycle: Lifecycle, version: dict[str, Any], tmp_path: Path) -> None:
    lifecycle.run("promote_model", version=version["version"], approve="yes", canary_share=0)
    measured = {name: value for name, value in tags(lifecycle, version["version"]).items() if name.startswith((METRIC_TAG, FACTS_TAG))}
    worse = made_elsewhere(lifecycle, tmp_path, {**measured, f"{METRIC_TAG}held_out_loss": "1e9"})
    with pytest.raises(DagRunFailedError, match="held_out_loss"):
        lifecycle.run("promote_model", version=worse, approve="yes", slower_pct=1000, quality_worse_pct=50)
    assert champion(lifecycle) == version["version"]


def test_each_dag_starts_the_next_where_it_was_asked_to(lifecycle: Lifecycle, version: dict[str, Any]) -> None:
    before = {run.run_id for run in lifecycle.api.runs("promote_model")}
    lifecycle.run("evaluate_model", version=version["version"], then_promote=True, **EVALUATION)
    started = wait_for(
        lambda: {run.run_id for run in lifecycle.api.runs("promote_model")} - before, 90, "promote_model to start", interval=1.0
    )
    (run_id,) = started
    wait_for(lambda: lifecycle.api.approvals("promote_model", run_id) == ["approve"], 90, "the approval to be asked for", interval=1.0)
    lifecycle.api.answer("promote_model", run_id, "approve", REJECT)
    lifecycle.api.wait("promote_model", run_id, timeout_s=90)
