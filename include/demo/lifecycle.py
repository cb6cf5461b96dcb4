"""From images to a champion, through Airflow: dataset, two trained and measured versions, promotion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from include.config import Settings
from include.demo.airflow_runs import FinishedRun, run_dag, wait_until_parsed
from include.demo.approval import Approval, Approver
from include.demo.options import DemoOptions
from include.lifecycle.airflow_api import AirflowApi
from include.platform.airflow import credentials

DAGS = ("prepare_dataset", "train_model", "evaluate_model", "compress_model", "promote_model")
#: Of the gate: versions are trained for seconds and measured on few captions.
ALLOWANCE = {"quality_worse_pct": 100}
#: Of the canary: so much that a few seconds of the demo's stream are enough, judged with an allowance for a machine that does all at once.
CANARY = {"canary_share": 0.5, "canary_min_requests": 6, "canary_minutes": 3, "canary_slower_pct": 200}
#: Of the sweep, with which every variant is built and measured in seconds.
SWEEP = {"images": 16, "repeats": 4}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A trained version with what was measured on it."""

    version: str
    training: FinishedRun
    evaluation: FinishedRun

    @property
    def metrics(self) -> Mapping[str, float]:
        return dict(self.evaluation.result["metrics"])


@dataclass(frozen=True, kw_only=True)
class Promotion:
    run: FinishedRun
    approvals: tuple[Approval, ...]  #: that a person had to give
    verdict: str  #: on its canary


class Lifecycle:
    """Every method is one or two DAG runs and raises :class:`StepFailedError` where one fails."""

    def __init__(self, settings: Settings, options: DemoOptions, console: Console) -> None:
        self._settings = settings
        self._options = options
        self._console = console
        self._api = AirflowApi(settings.airflow, *credentials(settings))

    def wait_ready(self) -> None:
        wait_until_parsed(self._api, DAGS)

    def prepare_dataset(self) -> FinishedRun:
        conf = {"source": "openmoji", "shard_size": self._options.shard_size, "limit": self._options.dataset_limit}
        return self._run("prepare_dataset", conf, "publish")

    def train(self, dataset_version: str, steps: int, seed: int) -> FinishedRun:
        conf = {
            "model": self._settings.model_name,
            "dataset_version": dataset_version,
            "config": "demo",
            "init": self._options.init,
            "max_steps": steps,
            "seed": seed,
        }
        return self._run("train_model", conf, "register", f"-{seed}")

    def evaluate(self, training: FinishedRun) -> Version:
        version = str(training.result["version"])
        conf = {"model": self._settings.model_name, "version": version}
        options = {"prompts": self._options.eval_prompts, "steps": self._options.eval_steps}
        evaluation = self._run("evaluate_model", {**conf, **options}, "evaluate", f"-{version}")
        return Version(version=version, training=training, evaluation=evaluation)

    def compress(self, version: str) -> FinishedRun:
        conf = {"model": self._settings.model_name, "version": version, "variants": list(self._options.variants)}
        return self._run("compress_model", {**conf, **SWEEP}, "report", f"-{version}")

    def promote(self, version: str, why: str) -> Promotion:
        """Through the gate, a person's approval and, where there is a champion, a canary."""
        conf = {"model": self._settings.model_name, "version": version, "why": why, **ALLOWANCE, **CANARY}
        run_id = self._run_id(f"-{version}")
        approver = Approver(self._api, self._settings.airflow, "promote_model", run_id, self._say)
        run = self._run("promote_model", conf, "promote", f"-{version}", approver.look)
        return Promotion(run=run, approvals=tuple(approver.given), verdict=str(self._api.xcom("promote_model", run_id, "canary")))

    def _run(
        self, dag_id: str, conf: dict[str, Any], result_of: str, suffix: str = "", meanwhile: Callable[[], None] = lambda: None
    ) -> FinishedRun:
        run_id, timeout_s = self._run_id(suffix), self._options.dag_timeout_s
        self._console.print(f"   {self._settings.airflow}/dags/{dag_id}/runs/{run_id}", style="dim", highlight=False)
        return run_dag(self._api, self._console, dag_id, conf, run_id=run_id, result_of=result_of, timeout_s=timeout_s, meanwhile=meanwhile)

    def _run_id(self, suffix: str) -> str:
        return f"demo-{self._options.run}{suffix}"

    def _say(self, line: str) -> None:
        self._console.print(f"   {line}", highlight=False, markup=False)
