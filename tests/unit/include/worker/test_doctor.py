from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from include.config import Settings
from include.platform.cli import app
from include.worker.backends import machine_key
from include.worker.doctor import backend_rows, measured_rows
from include.worker.verdicts import Measured, Verdict, Verdicts
from models.backends.known import BACKENDS


def test_every_backend_is_told_of_with_a_version_or_a_reason() -> None:
    rows = backend_rows("cpu")
    assert [row["backend"] for row in rows] == list(BACKENDS)
    assert all(row["detail"] for row in rows)
    usable = {row["backend"] for row in rows if row["usable"]}
    assert {"torch-eager", "onnxruntime", "openvino"} <= usable
    assert not {"tensorrt", "deepspeed"} & usable


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("include.config.settings", lambda: Settings(_env_file=None, home=tmp_path))
    return tmp_path


def test_the_command_prints_a_table(home: Path) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "torch-eager" in result.output
    assert "needs a CUDA GPU" in result.output
    assert "No worker has measured a model here yet" in result.output


def test_what_workers_measured_here_is_shown(home: Path) -> None:
    differs = Measured(refused="its images differ")
    backends = {"torch-eager": Measured(step_s=0.02, batch_step_s=0.06), "openvino": Measured(step_s=0.0142, batch_step_s=0.05)}
    found = Verdict(width=64, height=64, batch=4, signature="s", backends={**backends, "onnxruntime-int8": differs})
    Verdicts(home / "backends" / machine_key("cpu", 1) / ("ab" * 32)).write(found)
    Verdicts(home / "backends" / "another-machine" / ("cd" * 32)).write(found)
    rows = measured_rows("cpu", home)
    assert [(row["model"], row["size"], row["backend"], row["step_ms"], row["chosen"], row["refused"]) for row in rows] == [
        ("ab" * 6, "64x64", "torch-eager", 20.0, False, None),
        ("ab" * 6, "64x64", "openvino", 14.2, True, None),
        ("ab" * 6, "64x64", "onnxruntime-int8", None, False, "its images differ"),
    ]
    shown = CliRunner().invoke(app, ["doctor"]).output
    assert "auto takes it" in shown and "its images differ" in shown and "cdcd" not in shown
    assert measured_rows("cuda:9", home) == []


def test_the_command_prints_json_for_a_device_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["doctor", "--device", "cuda:9", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["device"] == "cuda:9"
    assert {row["backend"]: row["detail"] for row in found["backends"]}["openvino"] == "runs on the CPU only, not on cuda:9"


def test_a_device_of_another_kind_is_refused_with_the_fix() -> None:
    result = CliRunner().invoke(app, ["doctor", "--device", "tpu:0"])
    assert result.exit_code == 2 and "use cpu or cuda:N" in result.output
