"""``maintain_platform`` in Airflow: a dry run by itself, a removal only where it is asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path

from include.lifecycle.datasets import dataset_root
from tests.support.airflow import AirflowEnvironment
from tests.support.tiny_dataset import write_tiny_dataset


def forgotten_dataset(root: Path) -> Path:
    manifest = write_tiny_dataset(root / "forgotten-1", {"train": 2})
    then = time.time() - 100 * 86_400
    for path in (manifest.parent, *manifest.parent.iterdir()):
        os.utime(path, (then, then))
    return manifest


def test_nothing_goes_unless_the_run_says_apply(airflow_env: AirflowEnvironment, mlflow_server: str) -> None:
    manifest = forgotten_dataset(dataset_root(airflow_env.settings))
    limits = {"keep_datasets": 0, "dataset_days": 90}
    shown = airflow_env.test_dag("maintain_platform", limits)
    assert "dataset version forgotten-1" in shown
    assert manifest.is_file()
    airflow_env.test_dag("maintain_platform", {**limits, "apply": True})
    assert not manifest.parent.exists()
