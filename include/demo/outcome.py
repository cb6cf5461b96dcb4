"""All that a demo has produced so far; report and page are made of it, also when a step failed half-way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from include.config import Settings
from include.demo.airflow_runs import FinishedRun
from include.demo.burst import Burst
from include.demo.burst_judging import HighLane
from include.demo.lifecycle import Promotion, Version
from include.demo.options import DemoOptions
from include.demo.rollback import Rollback
from include.demo.steps import Steps
from include.demo.traffic import Traffic
from include.demo.worker_acts import WorkerActs


@dataclass
class Outcome:
    settings: Settings
    options: DemoOptions
    steps: Steps
    started_at: float = field(default_factory=time.time)
    dataset: FinishedRun | None = None
    versions: list[Version] = field(default_factory=list)
    sweep: FinishedRun | None = None  #: of compressed variants of the first version
    promotions: list[Promotion] = field(default_factory=list)
    traffic: Traffic | None = None
    rollback: Rollback | None = None
    burst: Burst | None = None
    high: HighLane | None = None  #: how its waits in the burst compare
    workers: WorkerActs | None = None
    faults: list[str] = field(default_factory=list)  #: what is not as it must be

    @property
    def ok(self) -> bool:
        return not self.faults and all(step.ok for step in self.steps.done)

    @property
    def addresses(self) -> dict[str, str]:
        found = self.settings
        return {
            "Airflow": found.airflow,
            "MLflow": f"{found.mlflow}/#/models/{found.model_name}",
            "Flink": found.flink,
            "Gateway": found.gateway,
        }

    def dataset_facts(self) -> dict[str, Any]:
        return dict(self.dataset.result) if self.dataset else {}
