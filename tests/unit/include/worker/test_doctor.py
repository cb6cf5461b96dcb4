from __future__ import annotations

import json

from typer.testing import CliRunner

from include.platform.cli import app
from include.worker.doctor import backend_rows
from models.backends.known import BACKENDS


def test_every_backend_is_told_of_with_a_version_or_a_reason() -> None:
    rows = backend_rows("cpu")
    assert [row["backend"] for row in rows] == list(BACKENDS)
    assert all(row["detail"] for row in rows)
    usable = {row["backend"] for row in rows if row["usable"]}
    assert {"torch-eager", "onnxruntime", "openvino"} <= usable
    assert not {"tensorrt", "deepspeed"} & usable


def test_the_command_prints_a_table() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "torch-eager" in result.output
    assert "needs a CUDA GPU" in result.output


def test_the_command_prints_json_for_a_device_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["doctor", "--device", "cuda:9", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["device"] == "cuda:9"
    assert {row["backend"]: row["detail"] for row in found["backends"]}["openvino"] == "runs on the CPU only, not on cuda:9"
