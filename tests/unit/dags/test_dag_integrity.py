"""Every DAG file imports quickly and without heavy libraries, is documented, retried, and bounds its parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.config import PROJECT_ROOT
from include.lifecycle.maintenance.limits import Limits

DAG_IDS = sorted(path.stem for path in (PROJECT_ROOT / "dags").glob("*.py"))

DESCRIBE = """
import json, sys, time
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
import airflow.providers.standard.operators.hitl

def describe(path):
    started = time.monotonic()
    bag = DagBag(path)
    seconds = time.monotonic() - started
    assert not bag.import_errors, bag.import_errors
    (dag,) = bag.dags.values()
    params = {name: dag.params.get_param(name) for name in dag.params}
    return {
        "dag_id": dag.dag_id, "seconds": seconds, "heavy": sorted({"torch", "mlflow", "pyarrow", "diffusers"} & set(sys.modules)),
        "doc": dag.doc_md, "tags": sorted(dag.tags), "catchup": dag.catchup, "max_active_runs": dag.max_active_runs,
        "paused": dag.is_paused_upon_creation, "tasks": {task.task_id: task.retries for task in dag.tasks},
        "params": {
            name: {"schema": param.schema, "description": param.description, "default": param.value} for name, param in params.items()
        },
    }

print(json.dumps({path.stem: describe(path) for path in map(Path, sys.argv[1:])}))
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    home = tmp_path_factory.mktemp("airflow")
    files = [str(PROJECT_ROOT / "dags" / f"{dag_id}.py") for dag_id in DAG_IDS]
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, *files], env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_lifecycle_is_complete() -> None:
    assert {"prepare_dataset", "train_model", "evaluate_model", "promote_model", "rollback_model", "maintain_platform"} <= set(DAG_IDS)
    assert {"compress_model", "remove_author"} <= set(DAG_IDS)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_file_is_named_like_its_dag_and_stays_small(described: dict[str, dict[str, Any]], dag_id: str) -> None:
    assert described[dag_id]["dag_id"] == dag_id
    assert len(Path(PROJECT_ROOT / "dags" / f"{dag_id}.py").read_text().splitlines()) <= 90


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_it_parses_within_a_second_without_heavy_imports(described: dict[str, dict[str, Any]], dag_id: str) -> None:
    assert described[dag_id]["heavy"] == []
    assert described[dag_id]["seconds"] < 1


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_it_is_documented_tagged_and_retried(described: dict[str, dict[str, Any]], dag_id: str) -> None:
    dag = described[dag_id]
    assert dag["doc"].startswith("###")
    assert "atelier" in dag["tags"] and len(dag["tags"]) >= 2
    assert min(dag["tasks"].values()) >= 2
    assert (dag["catchup"], dag["max_active_runs"], dag["paused"]) == (False, 1, False)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_parameter_has_help_and_bounds(described: dict[str, dict[str, Any]], dag_id: str) -> None:
    for name, param in described[dag_id]["params"].items():
        assert param["description"], name
        assert is_bounded(param["schema"]), f"{name} takes anything: {param['schema']}"


def test_the_form_of_maintenance_has_every_limit_with_its_default(described: dict[str, dict[str, Any]]) -> None:
    shown = {name: param["default"] for name, param in described["maintain_platform"]["params"].items()}
    assert shown == {"apply": False, "plan": "", **Limits().model_dump()}


def is_bounded(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", "")
    if "enum" in schema or kinds == "boolean":
        return True
    if kinds == "array":
        return "maxItems" in schema and is_bounded(schema["items"])
    if "string" in kinds:
        return "maxLength" in schema
    return ("minimum" in schema or "exclusiveMinimum" in schema) and "maximum" in schema
