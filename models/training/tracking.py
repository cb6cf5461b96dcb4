"""Where a run's numbers and pictures go: always a JSON-lines file in its directory, and MLflow when a run is named."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


class Tracker:
    """Training goes on while MLflow is away: numbers wait for the next call, pictures stay in the directory.

    Raises :class:`ValueError` when a run is named but no MLflow server is.
    """

    def __init__(self, directory: Path, mlflow_run_id: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / METRICS
        self._run_id = mlflow_run_id
        self._client = None
        self._waiting: list[Any] = []
        if mlflow_run_id:
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            if not uri:
                raise ValueError("mlflow-run-id: set MLFLOW_TRACKING_URI to the server that has this run")
            # A step must not wait minutes for a server that is away.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)

    def params(self, values: dict[str, Any]) -> None:
        if self._client:
            from mlflow.entities import Param

            self._send("parameters", params=[Param(name, str(value)[:6000]) for name, value in values.items()])

    def metrics(self, values: dict[str, float], step: int) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._client:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            self._waiting = [*self._waiting, *(Metric(name, value, now, step) for name, value in values.items())][-1000:]
            if self._send("metrics", metrics=self._waiting):
                self._waiting = []

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if self._client:
            from mlflow.exceptions import MlflowException

            try:
                self._client.log_artifact(self._run_id, str(path), folder)
            except (MlflowException, OSError) as error:
                print(f"MLflow took no {path.name}, which stays in {path.parent}: {_short(error)}", flush=True)

    def rewind(self, step: int) -> None:
        """Forgets the file's lines of later steps, which a resumed run makes again."""
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            self._path.write_text("".join(kept), encoding="utf-8")

    def _send(self, what: str, **batch: Any) -> bool:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        try:
            self._client.log_batch(self._run_id, **batch)
        except MlflowException as error:
            print(f"MLflow took no {what}, training goes on: {_short(error)}", flush=True)
            return False
        return True


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
