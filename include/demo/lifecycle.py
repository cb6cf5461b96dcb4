"""From images to a champion, through Airflow: dataset, two trained and measured versions, promotion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from include.config import Settings
from include.demo.airflow_runs import BegunRun, FinishedRun, begin_dag, follow_dag, wait_until_parsed
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
    """Every method is a DAG run, or the beginning of one, and raises :class:`StepFailedError` where it fails."""

    def __init__(self, settings: Settings, options: DemoOptions, console: Console) -> None:
        self._settings = settings
        self._options = options
        self._console = console
        self._api = AirflowApi(settings.airflow, *credentials(settings))

    def wait_ready(self) -> None:
        wait_until_parsed(self._api, DAGS)

    def begin_dataset(self) -> BegunRun:
        conf = {"source": "openmoji", "shard_size": self._options.shard_size, "limit": self._options.dataset_limit}
        return self._begin("prepare_dataset", conf, "publish")

    def begin_training(self, dataset_version: str, steps: int, seed: int) -> BegunRun:
        conf = {
            "model": self._settings.model_name,
            "dataset_version": dataset_version,
            "config": "demo",
            "init": self._options.init,
            "max_steps": steps,
            "seed": seed,
        }
        return self._begin("train_model", conf, "register", f"-{seed}")

    def evaluate(self, training: FinishedRun) -> Version:
        version = str(training.result["version"])
        conf = {"model": self._settings.model_name, "version": version}
        options = {"prompts": self._options.eval_prompts, "steps": self._options.eval_steps}
        evaluation = self.finish(self._begin("evaluate_model", {**conf, **options}, "evaluate", f"-{version}"))
        return Version(version=version, training=training, evaluation=evaluation)

    def compress(self, version: str) -> FinishedRun:
        conf = {"model": self._settings.model_name, "version": version, "variants": list(self._options.variants)}
        return self.finish(self._begin("compress_model", {**conf, **SWEEP}, "report", f"-{version}"))

    def promote(self, version: str, why: str) -> Promotion:
        """Through the gate, a person's approval and, where there is a champion, a canary."""
        conf = {"model": self._settings.model_name, "version": version, "why": why, **ALLOWANCE, **CANARY}
        begun = self._begin("promote_model", conf, "promote", f"-{version}")
        approver = Approver(self._api, self._settings.airflow, begun.dag_id, begun.run_id, self._say)
        run = self.finish(begun, approver.look)
        return Promotion(run=run, approvals=tuple(approver.given), verdict=str(self._api.xcom(begun.dag_id, begun.run_id, "canary")))

    def finish(self, begun: BegunRun, meanwhile: Callable[[], None] = lambda: None) -> FinishedRun:
        """Shows the run until its end."""
        self._console.print(f"   {self._settings.airflow}/dags/{begun.dag_id}/runs/{begun.run_id}", style="dim", highlight=False)
        return follow_dag(self._api, self._console, begun, timeout_s=self._options.dag_timeout_s, meanwhile=meanwhile)

    def _begin(self, dag_id: str, conf: dict[str, Any], result_of: str, suffix: str = "") -> BegunRun:
        return begin_dag(self._api, dag_id, conf, run_id=f"demo-{self._options.run}{suffix}", result_of=result_of)

    def _say(self, line: str) -> None:
        self._console.print(f"   {line}", highlight=False, markup=False)
