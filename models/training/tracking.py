"""Where a run's numbers and pictures go: always a JSON-lines file in its directory, and MLflow when a run is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


class Tracker:
    """Raises :class:`ValueError` when a run is named but no MLflow server is."""

    def __init__(self, directory: Path, mlflow_run_id: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / METRICS
        self._run_id = mlflow_run_id
        self._client = None
        if mlflow_run_id:
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            if not uri:
                raise ValueError("mlflow-run-id: set MLFLOW_TRACKING_URI to the server that has this run")
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)

    def params(self, values: dict[str, Any]) -> None:
        if self._client:
            from mlflow.entities import Param

            self._client.log_batch(self._run_id, params=[Param(name, str(value)[:6000]) for name, value in values.items()])

    def metrics(self, values: dict[str, float], step: int) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._client:
            for name, value in values.items():
                self._client.log_metric(self._run_id, name, value, step=step)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if self._client:
            self._client.log_artifact(self._run_id, str(path), folder)
