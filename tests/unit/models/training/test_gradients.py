"""One gradient, in as many passes as memory asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.training import gradients
from models.training.checkpoints import Checkpoints
from models.training.objectives.flow_matching import FlowMatching
from models.training.status import ExitStatus
from models.training.train_text_to_image import main

ROOT = Path(__file__).parents[4]
Arguments = Callable[..., list[str]]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(directory=directory / "checkpoints").newest()
    assert found is not None
    return {name: value for name, value in found.tensors.items() if name.startswith("network.")}


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_passes_and_gradient_checkpointing_leave_the_gradient_as_it_is(arguments: Arguments, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"max_steps": 2, "precision": "fp32", "optimizer": "adamw", "sample_prompts": []}
    assert main(arguments("whole", **changes)) == 0
    assert main(arguments("parts", micro_batch=1, gradient_checkpointing=True, **changes)) == 0
    assert difference(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < 1e-4


def test_where_memory_runs_out_smaller_passes_follow(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objective asks for more memory than there is, as a batch of that size would on a small GPU."""

    def loss(self: FlowMatching, predict: Any, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(latents) > 1:
            torch.empty(2**60, dtype=torch.uint8)
        return whole(self, predict, latents, *rest)

    whole = FlowMatching.loss
    monkeypatch.setattr(FlowMatching, "loss", loss)
    changes: dict[str, Any] = {"max_steps": 1, "validation_samples": 1, "precision": "fp32", "optimizer": "adamw", "sample_prompts": []}
    assert main(arguments("small", **changes)) == 0
    said = capsys.readouterr().out
    assert "out of memory; from here on 2 samples" in said
    assert "out of memory; from here on 1 samples" in said
    monkeypatch.undo()
    assert main(arguments("large", **changes)) == 0
    assert difference(weights(tmp_path / "small"), weights(tmp_path / "large")) < 1e-4
    found = Checkpoints(directory=tmp_path / "small" / "checkpoints").newest()
    assert found is not None
    assert found.facts["micro_batch"] == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not gradients.is_out_of_memory(RuntimeError("shapes differ"))
    assert gradients.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def loss(self: FlowMatching, predict: Any, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        calls.append(len(latents))
        return whole(self, predict, latents, *rest) * (float("nan") if len(calls) == 3 else 1.0)

    whole = FlowMatching.loss
    monkeypatch.setattr(FlowMatching, "loss", loss)
    assert main(arguments("nan", checkpoint_every=2, validate_every=100)) == ExitStatus.DIVERGED
    assert "the loss is nan at step 3; the checkpoints before stay" in capsys.readouterr().err
    found = Checkpoints(directory=tmp_path / "nan" / "checkpoints").newest()
    assert found is not None
    assert found.facts["step"] == 2
    assert all(value.isfinite().all() for value in found.tensors.values())


def test_two_processes_train_as_one_does(arguments: Arguments, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"max_steps": 2, "precision": "fp32", "optimizer": "adamw", "sample_prompts": []}
    assert main(arguments("one", **changes)) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "models.training.train_text_to_image", *arguments("two", **changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on cpu on 2 processes" in done.stdout
    assert done.stdout.count("step 2/2") == 1
    assert difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-4
