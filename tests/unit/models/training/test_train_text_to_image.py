"""A run, a killed run, and a run of bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models.pipelines.text_to_image import load_pipeline
from models.training.train_text_to_image import INTERRUPTED, main
from tests.unit.models.conftest import TINY

ROOT = Path(__file__).parents[4]
STEPS = 8


@pytest.fixture
def arguments(manifest: Path, tmp_path: Path) -> Callable[..., list[str]]:
    settings = {
        "max_steps": STEPS, "batch_size": 4, "warmup_steps": 2, "threads": 1, "log_every": 1, "checkpoint_every": 100, "validate_every": 4,
        "network": TINY, "sample_prompts": ["red square"], "sample_steps": 2,
    }  # fmt: skip

    def of(name: str, *more: str, **changes: object) -> list[str]:
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**settings, **changes}))
        return ["--config", str(config), "--dataset", str(manifest), "--output", str(tmp_path / name), *more]

    return of


def weights(tmp_path: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(tmp_path / name / "checkpoint" / "state.safetensors")


def interrupt_at(step: int, arguments: list[str]) -> int:
    """Runs the trainer as a process and sends SIGTERM once it has said that ``step`` is done."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-u", "-m", "models.training.train_text_to_image", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith(f"step {step}/"):
                process.send_signal(signal.SIGTERM)
    return process.returncode


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_killed_and_resumed_gives_the_weights_of_an_uninterrupted_run(
    arguments: Callable[..., list[str]], tmp_path: Path, optimizer: str
) -> None:
    assert main(arguments("whole", optimizer=optimizer)) == 0
    cut = arguments("cut", optimizer=optimizer, max_steps=STEPS)
    assert interrupt_at(3, cut) == INTERRUPTED
    stopped_at = json.loads((tmp_path / "cut" / "checkpoint" / "state.json").read_text())["step"]
    assert 3 <= stopped_at < STEPS
    assert main(cut) == 0
    whole, resumed = weights(tmp_path, "whole"), weights(tmp_path, "cut")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_a_run_leaves_a_pipeline_its_record_metrics_and_samples(
    arguments: Callable[..., list[str]], tmp_path: Path, manifest: Path
) -> None:
    assert main(arguments("run", "--max-steps", "4", "--seed", "5")) == 0
    output = tmp_path / "run"
    assert load_pipeline(output / "pipeline")("red square", num_inference_steps=2).images[0].size == (16, 16)
    record = json.loads((output / "training.json").read_text())
    assert (record["steps"], record["samples_seen"], record["seed"], record["config"]["seed"]) == (4, 16, 5, 5)
    assert record["dataset_digest"] == json.loads(manifest.read_text())["digest"]
    assert record["defaults"]["width"] == 16
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert record["metrics"]["held_out_loss"] == rows[-1]["held_out_loss"]
    assert (output / "samples" / "step-000004.png").stat().st_size > 0


def test_training_lowers_the_loss(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    assert main(arguments("long", max_steps=60, batch_size=8, learning_rate=0.003, validate_every=30, sample_prompts=[])) == 0
    losses = [row["loss"] for row in map(json.loads, (tmp_path / "long" / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_run_starts_from_a_pipeline(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    assert main(arguments("first", max_steps=2)) == 0
    start = str(tmp_path / "first" / "pipeline")
    assert main(arguments("second", "--init", start, max_steps=1, learning_rate=1e-9, optimizer="adamw", weight_decay=0.0, seed=9)) == 0
    first, second = (weights(tmp_path, name) for name in ("first", "second"))
    names = [name for name in first if name.startswith("averaged.")]
    assert max((first[name] - second[name]).abs().max().item() for name in names) < 1e-6


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"batch_size": 0}, "batch_size"), ({"exclude": "."}, "exclude"), ({"network": {"sample_size": 15}}, "sample_size")],
)
def test_bad_settings_end_with_the_field_and_status_2(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], changes: dict[str, object], named: str
) -> None:
    assert main(arguments("bad", **changes)) == 2
    assert named in capsys.readouterr().err


def test_the_output_of_another_seed_is_not_overwritten(arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("run", max_steps=1)) == 0
    assert main(arguments("run", max_steps=2, seed=1)) == 2
    assert "another output directory" in capsys.readouterr().err


def test_a_run_of_mlflow_needs_its_server(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(arguments("run", "--mlflow-run-id", "abc")) == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own queries
def test_numbers_and_pictures_reach_mlflow(arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("training", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    assert main(arguments("run", "--mlflow-run-id", run_id, max_steps=4)) == 0
    run = client.get_run(run_id)
    assert run.data.params["batch_size"] == "4"
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [1, 2, 3, 4]
    assert "held_out_loss" in run.data.metrics
    assert {item.path for item in client.list_artifacts(run_id)} == {"samples", "training.json"}
