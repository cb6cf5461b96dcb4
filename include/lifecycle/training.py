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
from include.registry.tags import ADAPTER_OF, DISTILLED_FROM

SHIPPED_CONFIGS = PROJECT_ROOT / "models" / "configs"
ENCODED = "encoded"  #: in the platform's home: what frozen encoders made of captions and images, for all runs


class TrainingPlan(BaseModel):
    """What is trained on what. Small and plain, so that an orchestrator can pass it along."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path = Field(description="The run's own directory: job files, checkpoints, the pipeline.")
    manifest: str = Field(description="Manifest of the dataset version: a path, or s3://bucket/... of the platform's S3.")
    dataset_version: str
    dataset_at: str = Field("", description="Address of the version, where it isn't one of this installation's own.")
    config: Path = Field(description="YAML of the trainer's settings.")
    model: str = Field("", description="Registered model that is trained, or that the result goes with.")
    task: Literal["train", "distill_steps"] = "train"
    init: Literal["base", "scratch", "champion"]
    start: Path | None = Field(None, description="The champion's pipeline directory, where training starts from that.")
    parent: str = Field("", description="The version that training starts from, as MODEL/VERSION.")
    cache: Path | None = Field(None, description="Where encoded captions and images are kept by content.")
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
            "--init": "base" if self.init == "base" else self.start,
            "--cache": self.cache,
            "--max-steps": self.max_steps,
            "--seed": self.seed,
            "--learning-rate": self.learning_rate,
        }
        words = [str(word) for name, value in options.items() if value is not None for word in (name, value)]
        module = "distill_steps" if self.task == "distill_steps" else "train_text_to_image"
        return [sys.executable, "-u", "-m", f"models.training.{module}", *words]

    def environment(self, settings: Settings) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": settings.mlflow,
            "PYTHONPATH": str(PROJECT_ROOT),
            "HF_HUB_OFFLINE": "1",
            "GIT_PYTHON_REFRESH": "quiet",
            **_s3_environment(settings),
        }

    def outcome(self) -> TrainingOutcome:
        return TrainingOutcome.read(self.directory)


class TrainingOutcome(BaseModel):
    """What a finished run left behind."""

    exported: Path = Field(description="Directory of the exported pipeline or adapter.")
    record: Mapping[str, Any] = Field(description="training.json: configuration, digests, metrics, defaults.")

    @classmethod
    def read(cls, directory: Path) -> TrainingOutcome:
        """Raises :class:`FileNotFoundError` where the run hasn't finished."""
        record = json.loads((directory / "training.json").read_text(encoding="utf-8"))
        return cls(exported=directory / record["exported"], record=record)

    @property
    def is_adapter(self) -> bool:
        return bool(self.record["method"] == "lora")

    @property
    def is_distilled(self) -> bool:
        return bool(self.record.get("distilled"))

    def registered_name(self, plan: TrainingPlan) -> str:
        """The registered model that the result is a version of: the trained one, or one of its own beside it."""
        if self.is_adapter:
            return f"{plan.model}-{plan.config.stem}"
        return f"{plan.model}-fast" if self.is_distilled else plan.model

    def defaults(self) -> ModelDefaults:
        """What a request of this version gets where it says nothing. The network renders the size it was trained on."""
        given = self.record["defaults"]
        width, height = given["width"], given["height"]
        return ModelDefaults(width=width, height=height, steps=given["steps"], guidance=given["guidance"], sizes=((width, height),))

    def tags(self, plan: TrainingPlan) -> dict[str, str]:
        """Lineage of the version."""
        facts = {key: str(self.record[key]) for key in ("dataset_digest", "code_version", "seed", "steps", "method")}
        places = {"dataset_version": plan.dataset_version, "dataset_at": plan.dataset_at, "init": plan.init, "parent": plan.parent}
        marks = {f"atelier.{key}": value for key, value in (facts | places).items() if value}
        if self.is_adapter:
            marks[ADAPTER_OF] = plan.model
        if self.is_distilled:
            marks[DISTILLED_FROM] = plan.model
        return marks


def _s3_environment(settings: Settings) -> dict[str, str]:
    """How the trainer, which knows nothing of our settings, finds the platform's S3; what isn't set is left to boto3's own search."""
    found = {
        "AWS_ENDPOINT_URL": settings.s3_endpoint,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key.get_secret_value(),
        "AWS_DEFAULT_REGION": settings.s3_region,
    }
    return {name: value for name, value in found.items() if value}


def find_config(settings: Settings, name: str) -> Path:
    """The YAML of that name, from HOME/configs or else from models/configs. Raises :class:`LookupError` that names what there is."""
    found = {path.stem: path for folder in (SHIPPED_CONFIGS, settings.home.resolve() / "configs") for path in folder.glob("*.yaml")}
    if name not in found:
        raise LookupError(f"config: there is no configuration {name}; there are: {', '.join(sorted(found))}")
    return found[name]


def runs_root(settings: Settings) -> Path:
    """Where the directories of all runs are."""
    return settings.home.resolve() / "training"


def run_directory(settings: Settings, run_id: str) -> Path:
    """A directory for an orchestrator's run id, whose signs a file system may not like."""
    return runs_root(settings) / re.sub(r"[^A-Za-z0-9._-]", "_", run_id)
