"""A run, a killed run, and a run of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.pipelines.text_to_image import load_pipeline
from models.training.checkpoints import Checkpoints
from models.training.status import ExitStatus
from models.training.train_text_to_image import main
from tests.support.s3 import BUCKET, S3Server
from tests.support.tiny_dataset import write_tiny_dataset
from tests.unit.models.training.conftest import STEPS

ROOT = Path(__file__).parents[4]


def weights(tmp_path: Path, name: str) -> dict[str, torch.Tensor]:
    found = Checkpoints(directory=tmp_path / name / "checkpoints").newest()
    assert found is not None
    return found.tensors


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """The trainer as a process."""
    command = [sys.executable, "-u", "-m", "models.training.train_text_to_image", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stop_at(step: int, arguments: list[str], how: signal.Signals) -> int:
    """Sends the signal to a trainer once it has said that ``step`` is done, and returns its exit status."""
    with start(arguments) as process:
        for line in process.stdout or ():
            if line.startswith(f"step {step}/"):
                process.send_signal(how)
    return process.returncode


def same_weights(tmp_path: Path, one: str, other: str) -> bool:
    first, second = weights(tmp_path, one), weights(tmp_path, other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_told_to_stop_and_resumed_gives_the_weights_of_an_uninterrupted_run(
    arguments: Callable[..., list[str]], tmp_path: Path, optimizer: str
) -> None:
    assert main(arguments("whole", optimizer=optimizer)) == 0
    cut = arguments("cut", optimizer=optimizer)
    assert stop_at(3, cut, signal.SIGTERM) == ExitStatus.INTERRUPTED
    stopped = Checkpoints(directory=tmp_path / "cut" / "checkpoints").newest()
    assert stopped is not None
    assert 3 <= stopped.facts["step"] < STEPS
    assert main(cut) == 0
    assert same_weights(tmp_path, "whole", "cut")


def test_killed_in_the_middle_of_an_epoch_it_goes_on_from_the_last_checkpoint_to_the_same_weights(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"checkpoint_every": 2, "optimizer": "adamw", "method": "full", "micro_batch": 3}
    assert main(arguments("whole", **changes)) == 0
    cut = arguments("cut", **changes)
    assert stop_at(3, cut, signal.SIGKILL) == -signal.SIGKILL
    capsys.readouterr()
    assert main(cut) == 0
    assert "resumed at step 2" in capsys.readouterr().out
    assert same_weights(tmp_path, "whole", "cut")
    steps = [json.loads(line).get("step") for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, STEPS + 1))


def test_a_damaged_checkpoint_is_passed_over_and_the_result_is_the_same(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"checkpoint_every": 2, "optimizer": "adamw", "sample_prompts": []}
    assert main(arguments("whole", **changes)) == 0
    assert main(arguments("cut", max_steps=4, decay_fraction=0.0, **changes)) == 0
    reference = arguments("reference", decay_fraction=0.0, **changes)
    assert main(reference) == 0
    file = tmp_path / "cut" / "checkpoints" / "step-000004" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(arguments("cut", decay_fraction=0.0, **changes)) == 0
    said = capsys.readouterr().out
    assert "step-000004 is damaged" in said
    assert "resumed at step 2" in said
    assert same_weights(tmp_path, "reference", "cut")


def test_a_second_trainer_of_a_directory_is_turned_away_and_disturbs_nothing(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    long = arguments("run", max_steps=100_000, validate_every=100_000, optimizer="adamw")
    with start(long) as first:
        assert first.stdout is not None
        next(line for line in first.stdout if line.startswith("step 1/"))
        assert main(long) == ExitStatus.TAKEN
        assert f"is being trained by process {first.pid}" in capsys.readouterr().err
        assert next(first.stdout).startswith("step ")
        first.kill()
        first.stdout.read()


def test_the_best_weights_are_exported_where_that_is_asked_for(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    changes = {"validate_every": 1, "learning_rate": 0.5, "optimizer": "adamw", "ema_decay": 0.0, "export": "best", "sample_prompts": []}
    assert main(arguments("run", **changes)) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["held_out_loss"] for row in rows if "held_out_loss" in row}
    best = min(losses, key=losses.__getitem__)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert best < STEPS
    assert (record["steps"], record["metrics"]["held_out_loss"]) == (best, losses[best])


def on(dataset: Path | str, command: list[str]) -> list[str]:
    """The command with another dataset."""
    place = command.index("--dataset") + 1
    return [*command[:place], str(dataset), *command[place + 1 :]]


@pytest.mark.parametrize("threads", [1, 3])
def test_images_of_several_sizes_and_a_resume_in_the_middle_of_a_window_give_the_same_weights(
    arguments: Callable[..., list[str]], tmp_path: Path, threads: int
) -> None:
    """Two row groups a window, of six; batches of each size by itself; stopped at step 9 of the first epoch's 80."""
    manifest = write_tiny_dataset(tmp_path / "mixed", {"train": 320, "validation": 4}, [(16, 16), (24, 16)])
    changes: dict[str, object] = {"optimizer": "adamw", "sample_prompts": [], "shuffle_window": 2, "validate_every": 100}
    assert main(on(manifest, arguments("whole", max_steps=12, decay_fraction=0.0, **changes))) == 0
    assert main(on(manifest, arguments("cut", max_steps=9, decay_fraction=0.0, **changes))) == 0
    assert main(on(manifest, arguments("cut", max_steps=12, decay_fraction=0.0, loader_threads=threads, **changes))) == 0
    assert same_weights(tmp_path, "whole", "cut")


def test_a_run_on_a_bucket_is_the_run_on_the_folder_and_is_resumed_without_its_cache(
    arguments: Callable[..., list[str]], tmp_path: Path, manifest: Path, bucket: S3Server
) -> None:
    place = bucket.upload(manifest.parent, "training")
    changes = {"optimizer": "adamw", "sample_prompts": [], "checkpoint_every": 2}
    assert main(arguments("folder", **changes)) == 0
    cut = on(f"{place}/manifest.json", arguments("bucket", **changes))
    assert stop_at(3, cut, signal.SIGKILL) == -signal.SIGKILL
    shutil.rmtree(tmp_path / "bucket" / "encoded")
    assert main(cut) == 0
    assert same_weights(tmp_path, "folder", "bucket")
    assert list((tmp_path / "bucket" / "encoded" / "files").glob("*.parquet"))


def test_a_bucket_that_can_not_be_reached_is_named(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], bucket: S3Server
) -> None:
    assert main(on(f"s3://{BUCKET}/nowhere/manifest.json", arguments("run"))) == ExitStatus.INVALID
    assert f"s3://{BUCKET}/nowhere/manifest.json" in capsys.readouterr().err


def test_a_full_disk_stops_neither_the_run_nor_the_checkpoint_before(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to the device that is always full stands where the second checkpoint would be written."""
    from models.training import checkpoints

    def save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "step-000004" in str(path):
            path.symlink_to("/dev/full")
            path.write_bytes(b"x" * 100_000)
        whole(tensors, path)

    whole = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", save_file)
    assert main(arguments("run", checkpoint_every=2, max_steps=5, keep_checkpoints=3, sample_prompts=[], optimizer="adamw")) == 0
    assert "No space left on device; the checkpoints before stay" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-000002", "step-000005"]


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
    [
        ({"batch_size": 0}, "batch_size"),
        ({"exclude": "."}, "exclude"),
        ({"network": {"sample_size": 15}}, "sample_size"),
        ({"network": {"width": 3}}, "network: .*width"),
        ({"max_step": 3}, "max_step is not a setting; did you mean max_steps"),
        ({"network": {"sample_size": 16, "patch_size": 16}}, "sample_size"),
    ],
)
def test_bad_settings_end_with_the_field_and_status_2(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], changes: dict[str, object], named: str
) -> None:
    assert main(arguments("bad", **changes)) == 2
    assert re.search(named, capsys.readouterr().err)


def test_another_dataset_is_not_mixed_into_a_run(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("run", max_steps=1, sample_prompts=[])) == 0
    command = arguments("run", max_steps=2, sample_prompts=[])
    command[command.index("--dataset") + 1] = str(write_tiny_dataset(tmp_path / "other", {"train": 8, "validation": 2}))
    assert main(command) == ExitStatus.INVALID
    assert "dataset_digest: " in capsys.readouterr().err


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
