"""A training run as a job: where it lives, which command it is, what it leaves behind."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from include.config import PROJECT_ROOT, Settings
from include.contracts.control import ModelDefaults

SHIPPED_CONFIGS = PROJECT_ROOT / "models" / "configs"
INVALID = 2  #: the trainer's exit code for input that no repetition makes right


class TrainingPlan(BaseModel):
    """What is trained on what. Small and plain, so that an orchestrator can pass it along."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path = Field(description="The run's own directory: job files, checkpoints, the pipeline.")
    manifest: Path = Field(description="Manifest of the dataset version.")
    dataset_version: str
    config: Path = Field(description="YAML of the trainer's settings.")
    init: Literal["base", "scratch"]
    max_steps: int | None = Field(None, ge=1, description="None leaves it to the configuration, as in the next two.")
    seed: int | None = Field(None, ge=0)
    learning_rate: float | None = Field(None, gt=0)
    mlflow_run_id: str

    def command(self) -> list[str]:
        options: dict[str, object] = {
            "--config": self.config,
            "--dataset": self.manifest,
            "--output": self.directory,
            "--mlflow-run-id": self.mlflow_run_id,
            "--init": "base" if self.init == "base" else None,
            "--max-steps": self.max_steps,
            "--seed": self.seed,
            "--learning-rate": self.learning_rate,
        }
        words = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
        return [sys.executable, "-u", "-m", "models.training.train_text_to_image", *words]

    def environment(self, settings: Settings) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": settings.mlflow,
            "PYTHONPATH": str(PROJECT_ROOT),
            "HF_HUB_OFFLINE": "1",
            "GIT_PYTHON_REFRESH": "quiet",
        }

    def outcome(self) -> TrainingOutcome:
        return TrainingOutcome.read(self.directory)


class TrainingOutcome(BaseModel):
    """What a finished run left behind."""

    pipeline: Path = Field(description="Directory of the exported pipeline.")
    record: Mapping[str, Any] = Field(description="training.json: configuration, digests, metrics, defaults.")

    @classmethod
    def read(cls, directory: Path) -> TrainingOutcome:
        """Raises :class:`FileNotFoundError` where the run hasn't finished."""
        return cls(pipeline=directory / "pipeline", record=json.loads((directory / "training.json").read_text(encoding="utf-8")))

    def defaults(self) -> ModelDefaults:
        """What a request of this version gets where it says nothing. The network renders the size it was trained on."""
        given = self.record["defaults"]
        width, height = given["width"], given["height"]
        return ModelDefaults(width=width, height=height, steps=given["steps"], guidance=given["guidance"], sizes=((width, height),))

    def tags(self, plan: TrainingPlan) -> dict[str, str]:
        """Lineage of the version."""
        facts = {key: str(self.record[key]) for key in ("dataset_digest", "code_version", "seed", "steps")}
        return {
            **{f"atelier.{key}": value for key, value in facts.items()},
            "atelier.dataset_version": plan.dataset_version,
            "atelier.init": plan.init,
        }


def find_config(settings: Settings, name: str) -> Path:
    """The YAML of that name, from HOME/configs or else from models/configs. Raises :class:`LookupError` that names what there is."""
    found = {path.stem: path for folder in (SHIPPED_CONFIGS, settings.home.resolve() / "configs") for path in folder.glob("*.yaml")}
    if name not in found:
        raise LookupError(f"config: there is no configuration {name}; there are: {', '.join(sorted(found))}")
    return found[name]


def run_directory(settings: Settings, run_id: str) -> Path:
    """A directory for an orchestrator's run id, whose signs a file system may not like."""
    return settings.home.resolve() / "training" / re.sub(r"[^A-Za-z0-9._-]", "_", run_id)
