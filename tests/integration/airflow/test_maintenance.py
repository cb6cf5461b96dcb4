"""``maintain_platform`` in Airflow: a dry run by itself, a removal only where it is asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path

from include.lifecycle.airflow_api import DagRun
from include.lifecycle.datasets import dataset_root
from tests.integration.airflow.conftest import Lifecycle
from tests.support.tiny_dataset import write_tiny_dataset


def forgotten_dataset(root: Path) -> Path:
    manifest = write_tiny_dataset(root / "forgotten-1", {"train": 2})
    then = time.time() - 100 * 86_400
    for path in (manifest.parent, *manifest.parent.iterdir()):
        os.utime(path, (then, then))
    return manifest


def log(lifecycle: Lifecycle, run: DagRun, task_id: str) -> str:
    task = next(task for task in lifecycle.api.task_states(run.dag_id, run.run_id) if task.task_id == task_id)
    return "\n".join(lifecycle.api.log(run.dag_id, run.run_id, task))


def test_nothing_goes_unless_the_run_says_apply(lifecycle: Lifecycle) -> None:
    manifest = forgotten_dataset(dataset_root(lifecycle.settings))
    limits = {"keep_datasets": 0, "dataset_days": 90}
    shown = lifecycle.run("maintain_platform", **limits)
    assert "dataset version forgotten-1" in log(lifecycle, shown, "plan")
    assert manifest.is_file()
    lifecycle.run("maintain_platform", **limits, apply=True)
    assert not manifest.parent.exists()
