from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.pipelines.text_to_image import load_pipeline
from models.training.distill_steps import grid, main
from models.training.status import ExitStatus
from tests.support.tiny_pipeline import write_tiny_pipeline

Arguments = Callable[..., list[str]]
SHORT = {
    "max_steps": 25, "sample_steps": 2, "teacher_steps": 2, "teacher_guidance": 2.0, "learning_rate": 0.003, "optimizer": "adamw",
    "precision": "fp32", "weight_decay": 0.0, "ema_decay": 0.5, "validation_samples": 4, "sample_prompts": [], "log_every": 5,
    "validate_every": 100,
}  # fmt: skip


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("teacher") / "pipeline", text_length=8)


def test_the_students_steps_are_equally_wide() -> None:
    assert grid(4).sigmas.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert grid(1).sigmas.tolist() == pytest.approx([1.0, 0.0])


def test_a_student_comes_closer_to_its_guided_teacher(arguments: Arguments, teacher: Path, tmp_path: Path) -> None:
    assert main(arguments("student", "--init", str(teacher), **SHORT)) == 0
    record = json.loads((tmp_path / "student" / "training.json").read_text())
    assert (record["distilled"], record["defaults"]["steps"], record["defaults"]["guidance"]) == (True, 2, 1.0)

    student, first = load_pipeline(tmp_path / "student" / "pipeline"), load_pipeline(teacher)
    first.register_modules(scheduler=grid(4))
    goal = latents(first, steps=4, guidance=2.0)
    first.register_modules(scheduler=grid(2))
    untrained = (latents(first, steps=2, guidance=1.0) - goal).square().mean()
    assert (latents(student, steps=2, guidance=1.0) - goal).square().mean() < 0.8 * untrained


def latents(pipeline: object, steps: int, guidance: float) -> torch.Tensor:
    prompts = ["red square of 4", "blue square of 8", "green box", "yellow box"]
    state = pipeline.prepare(pipeline.encode(prompts, "", guidance), list(range(4)), steps=steps)  # type: ignore[attr-defined]
    for _ in range(steps):
        state = pipeline.step(state)  # type: ignore[attr-defined]
    return state.latents


def test_a_teacher_must_be_named(arguments: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("student", **SHORT)) == ExitStatus.INVALID
    assert "init: name the teacher" in capsys.readouterr().err
