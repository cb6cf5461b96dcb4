"""A sweep's plan over a tiny version, in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.contracts.control import ModelDefaults
from models.compression.plan import Measurement, Original, SweepPlan
from tests.support.tiny_pipeline import SIDE, write_tiny_pipeline

PROMPTS = ("red heart", "a cat", "a small house beside a river", "rocket")
#: Wide enough for layers that are quantized.
WIDTHS = {"outer_dim": 64, "inner_dim": 64}


@pytest.fixture(scope="session")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("version") / "pipeline", **WIDTHS)


@pytest.fixture
def plan_of(version: Path, tmp_path: Path) -> Callable[..., SweepPlan]:
    """A plan for the named variants, written where the sweep looks for it."""

    def make(*variants: str, directory: str = "sweep", **changes: object) -> SweepPlan:
        defaults = ModelDefaults(width=SIDE, height=SIDE, steps=2, guidance=2.0)
        original = Original(directory=version, digest="a" * 64, label="tiny/1", defaults=defaults)
        measurement = Measurement(width=SIDE, height=SIDE, images=4, batch=2, repeats=2, prompts=PROMPTS, threads=1, machine="here")
        plan = SweepPlan(
            directory=tmp_path / directory,
            home=tmp_path / "home",
            original=original,
            student_missing="tiny has no few-step student",
            variants=variants,
            measurement=measurement,
        ).model_copy(update=changes)
        plan.directory.mkdir(parents=True, exist_ok=True)
        plan.path.write_text(plan.model_dump_json())
        return plan

    return make
