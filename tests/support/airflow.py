"""A real Airflow for tests: run a DAG in one process, or through the scheduler by the REST API."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from include.config import PROJECT_ROOT, Settings
from include.platform.airflow import airflow_command, airflow_environment, token
from include.platform.environment import shared_environment
from include.platform.http import request_json
from tests.support.waiting import wait_for

FINISHED = ("success", "failed")


@dataclass
class AirflowEnvironment:
    """An initialised AIRFLOW_HOME; nothing runs."""

    settings: Settings
    extra: dict[str, str] = field(default_factory=dict)  #: more variables for the commands, such as ATELIER_STORE_URL

    @property
    def environment(self) -> dict[str, str]:
        return {**shared_environment(self.settings, "airflow-cli"), **airflow_environment(self.settings), **self.extra}

    def run(self, *arguments: str, timeout: float = 300, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the ``airflow`` command; the caller looks at returncode, stdout and stderr."""
        return subprocess.run(
            airflow_command(*arguments),
            cwd=PROJECT_ROOT,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def test_dag(
        self, dag_id: str, conf: Mapping[str, object] | None = None, timeout: float = 600, env: Mapping[str, str] | None = None
    ) -> str:
        """Run every task of a DAG in one process (``airflow dags test``) and return what it printed; asserts success."""
        done = self.run("dags", "test", dag_id, "--conf", json.dumps(conf or {}), timeout=timeout, env=env)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-6000:]
        return output


@dataclass
class AirflowServer:
    """A running Airflow with its scheduler."""

    settings: Settings

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {token(self.settings)}"}
        return request_json(f"{self.settings.airflow}/api/v2/{path}", method, body, timeout_s=30, headers=headers)

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a run and return its id."""
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", {"conf": conf or {}, "logical_date": None})["dag_run_id"])

    def wait_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """The run's final state: success or failed."""

        def final() -> str | None:
            state = str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])
            return state if state in FINISHED else None

        return str(wait_for(final, timeout, f"{dag_id} run {run_id} finished", interval=1.0))
