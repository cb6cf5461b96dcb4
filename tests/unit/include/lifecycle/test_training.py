"""A training plan as a command, and what a finished run says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from include.config import Settings
from include.lifecycle.training import TrainingOutcome, TrainingPlan, find_config, run_directory

RECORD = {
    "dataset_digest": "d" * 64,
    "code_version": "c",
    "seed": 5,
    "steps": 7,
    "metrics": {"held_out_loss": 0.3},
    "method": "full",
    "exported": "pipeline",
    "defaults": {"width": 64, "height": 64, "steps": 12, "guidance": 3.0},
}


def plan(tmp_path: Path, **changes: Any) -> TrainingPlan:
    fields = {
        "directory": tmp_path,
        "manifest": f"{tmp_path}/manifest.json",
        "dataset_version": "openmoji-1",
        "config": tmp_path / "demo.yaml",
        "model": "emoji",
        "init": "base",
        "mlflow_run_id": "r",
    }
    return TrainingPlan.model_validate({**fields, **changes})


def test_the_command_leaves_out_what_the_configuration_decides(tmp_path: Path) -> None:
    command = plan(tmp_path).command()
    assert command[2:4] == ["-m", "models.training.train_text_to_image"]
    assert command[command.index("--init") + 1] == "base"
    assert not {"--max-steps", "--seed", "--learning-rate"} & set(command)


def test_the_command_has_what_the_run_decides(tmp_path: Path) -> None:
    command = plan(tmp_path, init="scratch", max_steps=9, seed=0, learning_rate=0.5).command()
    values = {name: command[command.index(name) + 1] for name in ("--max-steps", "--seed", "--learning-rate")}
    assert values == {"--max-steps": "9", "--seed": "0", "--learning-rate": "0.5"}
    assert "--init" not in command


def test_the_trainer_understands_the_command(tmp_path: Path) -> None:
    from models.training.command import parser

    options = parser("train_text_to_image", "").parse_args(plan(tmp_path, max_steps=9, seed=1, learning_rate=0.5).command()[4:])
    assert (options.max_steps, options.seed, options.learning_rate, options.init) == (9, 1, 0.5, "base")


def test_a_plan_survives_being_handed_on_as_json(tmp_path: Path) -> None:
    assert TrainingPlan.model_validate(json.loads(json.dumps(plan(tmp_path).model_dump(mode="json")))) == plan(tmp_path)


def test_a_trainer_on_a_dataset_of_the_platforms_bucket_finds_it(tmp_path: Path) -> None:
    manifest = "s3://bucket/sets/openmoji-1/manifest.json"
    planned = plan(tmp_path, manifest=manifest, dataset_at="s3://bucket/sets/openmoji-1")
    command = planned.command()
    assert command[command.index("--dataset") + 1] == manifest
    settings = Settings(_env_file=None, home=tmp_path, s3_endpoint="http://here:9000", s3_access_key="me", s3_secret_key="secret")
    found = {name: value for name, value in planned.environment(settings).items() if name.startswith("AWS_")}
    assert found == {
        "AWS_ENDPOINT_URL": "http://here:9000",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert not {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"} & set(planned.environment(Settings(_env_file=None, home=tmp_path)))
    (tmp_path / "training.json").write_text(json.dumps(RECORD))
    assert TrainingOutcome.read(tmp_path).tags(planned)["atelier.dataset_at"] == "s3://bucket/sets/openmoji-1"


def test_a_plan_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="max_steps"):
        plan(tmp_path, max_steps=0)


def test_a_finished_run_gives_the_versions_defaults_and_lineage(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps(RECORD))
    outcome = TrainingOutcome.read(tmp_path)
    assert outcome.defaults().sizes == ((64, 64),)
    assert outcome.tags(plan(tmp_path))["atelier.dataset_digest"] == "d" * 64


def test_an_adapter_and_a_student_are_models_beside_the_one_they_serve(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({**RECORD, "method": "lora", "exported": "adapter"}))
    adapter = TrainingOutcome.read(tmp_path)
    assert (adapter.exported, adapter.registered_name(plan(tmp_path))) == (tmp_path / "adapter", "emoji-demo")
    assert adapter.tags(plan(tmp_path))["atelier.adapter_of"] == "emoji"
    (tmp_path / "training.json").write_text(json.dumps({**RECORD, "distilled": True}))
    student = TrainingOutcome.read(tmp_path)
    assert student.registered_name(plan(tmp_path)) == "emoji-fast"
    assert student.tags(plan(tmp_path))["atelier.distilled_from"] == "emoji"
    (tmp_path / "training.json").write_text(json.dumps(RECORD))
    trained = TrainingOutcome.read(tmp_path)
    assert trained.registered_name(plan(tmp_path)) == "emoji"
    assert not {"atelier.adapter_of", "atelier.distilled_from"} & set(trained.tags(plan(tmp_path)))


def test_a_student_is_made_by_a_trainer_of_its_own_from_the_champion(tmp_path: Path) -> None:
    command = plan(
        tmp_path, task="distill_steps", init="champion", start=tmp_path / "start", parent="emoji/3", cache=tmp_path / "c"
    ).command()
    assert command[3] == "models.training.distill_steps"
    assert command[command.index("--init") + 1] == str(tmp_path / "start")
    assert command[command.index("--cache") + 1] == str(tmp_path / "c")


def test_an_unfinished_run_has_no_outcome(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TrainingOutcome.read(tmp_path)


def test_a_configuration_of_the_installation_comes_before_a_shipped_one(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)
    assert find_config(settings, "demo").parent.name == "configs"
    own = tmp_path.resolve() / "configs" / "demo.yaml"
    own.parent.mkdir()
    own.write_text("{}")
    assert find_config(settings, "demo") == own


def test_an_unknown_configuration_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"config: there is no configuration nope; there are: .*demo"):
        find_config(Settings(_env_file=None, home=tmp_path), "nope")


def test_a_run_id_becomes_a_directory_name(tmp_path: Path) -> None:
    directory = run_directory(Settings(_env_file=None, home=tmp_path), "manual__2026-01-01T00:00:00+00:00/..")
    assert directory.parent == tmp_path.resolve() / "training"
    assert directory.name == "manual__2026-01-01T00_00_00_00_00_.."
