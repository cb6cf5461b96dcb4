"""What a sweep is asked to do and what it found, in plain data that another process can read. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from include.contracts.control import ModelDefaults
from models.compression.kinds import DISTILLED

FIGURES, IMAGES = "figures.json", "images.npy"  #: in a directory of what was measured
EXPLAINED, UNFIT, NO_ROOM = 1, 2, 28  #: exit codes of processes that build or measure, and the last also the sweep's
SCHEMA = 1  #: raised when what is built or measured changes its meaning, so that nothing older is taken for it


class Original(BaseModel):
    """A pipeline directory, and what a request of it gets where it says nothing."""

    model_config = ConfigDict(frozen=True)

    directory: Path
    digest: str
    label: str = Field(description="MODEL/VERSION.")
    defaults: ModelDefaults


class Measurement(BaseModel):
    """How variants are measured; equal for all of a sweep."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=16, le=4096, description="Pixels.")
    height: int = Field(ge=16, le=4096, description="Pixels.")
    steps: int = Field(0, ge=0, le=200, description="Of every variant; 0: the defaults of the version, or of the student.")
    images: int = Field(ge=4, le=10_000, description="Images whose quality is measured.")
    batch: int = Field(ge=1, le=256, description="Images rendered at a time while the quality is measured.")
    repeats: int = Field(ge=2, le=1000, description="Renders of one image that are timed.")
    seed: int = Field(0, ge=0, lt=2**31)
    prompts: tuple[str, ...] = Field(min_length=4, description="As many as images.")
    device: str = "cpu"
    threads: int = Field(2, ge=1, le=256)
    machine: str = Field(description="Equal where the same variant takes the same time and gives the same images.")


class SweepPlan(BaseModel):
    """One sweep over the variants of one version."""

    model_config = ConfigDict(frozen=True)

    directory: Path = Field(description="The sweep's own: job files and a row for each variant.")
    home: Path = Field(description="What is kept of the version for later sweeps: built variants, measurements.")
    original: Original
    student: Original | None = Field(None, description="The few-step student, where there is one.")
    student_missing: str = Field("", description="Why there is none, and what would make one.")
    variants: tuple[str, ...] = Field(min_length=1)
    measurement: Measurement
    again: bool = Field(False, description="Build and measure also what was measured before.")
    timeout_s: float = Field(1800.0, gt=0, description="Longest that building, or measuring, one variant may take.")

    @property
    def path(self) -> Path:
        return self.directory / "sweep.json"

    @classmethod
    def read(cls, directory: Path) -> Self:
        return cls.model_validate_json((directory / "sweep.json").read_bytes())

    def command(self) -> list[str]:
        return [sys.executable, "-u", "-m", "models.compression.sweep", str(self.directory)]

    def row_path(self, variant: str) -> Path:
        return self.directory / "rows" / f"{variant}.json"

    def row(self, variant: str) -> Row | None:
        """What was found of the variant; None as long as nothing was."""
        try:
            return Row.model_validate_json(self.row_path(variant).read_bytes())
        except FileNotFoundError:
            return None

    def built_directory(self, variant: str) -> Path:
        return self.home / "variants" / f"{variant}-{self._key(variant, self._shape(variant))}"

    def measured_directory(self, variant: str) -> Path:
        return self.home / "measured" / f"{variant}-{self._key(variant, self.measurement.model_dump(mode='json') | self._shape(variant))}"

    def source_of(self, variant: str) -> Original:
        """Whose defaults the variant is rendered with."""
        return self.student if variant == DISTILLED and self.student is not None else self.original

    def steps_of(self, variant: str) -> int:
        return self.measurement.steps or self.source_of(variant).defaults.steps

    def _shape(self, variant: str) -> dict[str, Any]:
        """What decides how a variant is built."""
        found = self.measurement
        calibration = {"prompts": found.prompts, "seed": found.seed}
        return {
            **calibration,
            "width": found.width,
            "height": found.height,
            "machine": found.machine,
            "source": self.source_of(variant).digest,
        }

    def _key(self, variant: str, facts: dict[str, Any]) -> str:
        content = {"schema": SCHEMA, "original": self.original.digest, "steps": self.steps_of(variant), **facts}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class State(StrEnum):
    MEASURED = "measured"
    NOT_AVAILABLE = "not available"  #: this machine, or this model, can't have it
    FAILED = "failed"  #: it should have worked


class Figures(BaseModel):
    """Measured of one variant, after it was loaded by a process of its own."""

    model_config = ConfigDict(frozen=True)

    network_mb: float = Field(description="Files that hold the network as it runs, in 10^6 bytes.")
    directory_mb: float = Field(description="All of the variant's files: also encoders, and the weights to fall back on.")
    load_s: float = Field(description="From the verified files to the first image.")
    memory_mb: float = Field(description="Highest resident memory of the process, libraries included; on a GPU, of the device.")
    p50_s: float = Field(description="Median seconds of one image, from prompt to pixels.")
    p95_s: float
    busy_pct: float = Field(0.0, description="Of the machine's CPU time, what other processes took while this was timed.")
    steps: int
    guidance: float
    backend: str = Field(description="What ran the network.")


class Row(BaseModel):
    """What a sweep found of one variant."""

    model_config = ConfigDict(frozen=True)

    variant: str
    state: State
    why: str = Field("", description="Where it was not measured, the reason.")
    figures: Figures | None = None
    built: Path | None = Field(None, description="Directory of the variant.")
    images: Path | None = Field(None, description="Its images, uint8 (N, H, W, 3), in numpy's format.")
    known: bool = Field(False, description="Whether an earlier sweep had measured it.")
