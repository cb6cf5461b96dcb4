from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from include.worker import cli
from include.worker.service import WorkerOptions

app = typer.Typer()
app.command()(cli.worker)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerOptions]:
    """The options of workers that would be run."""
    found: list[WorkerOptions] = []
    monkeypatch.setattr("include.worker.run.run_worker", lambda settings, options: found.append(options))
    return found


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["--worker-id", "worker-7", *arguments])


def test_pool_and_device_are_taken_over(started: list[WorkerOptions]) -> None:
    assert call("--pool", "premium", "--device", "cuda:1", "--drain-s", "5").exit_code == 0
    (options,) = started
    assert (options.worker_id, options.pool, options.device, options.drain_s, options.edge) == ("worker-7", "premium", "cuda:1", 5.0, None)


def test_without_an_id_it_has_that_of_its_machine_and_device(started: list[WorkerOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-3")
    assert CliRunner().invoke(app, ["--pool", "premium", "--device", "cuda:1"]).exit_code == 0
    assert started[0].worker_id == "gpu-3-cuda-1"


def test_a_gateway_and_its_credential_are_taken_over(started: list[WorkerOptions], tmp_path: Path) -> None:
    (tmp_path / "credential").write_text("abc\n")
    assert call("--gateway", "https://g.example.com", "--credential-file", str(tmp_path / "credential")).exit_code == 0
    edge = started[0].edge
    assert edge is not None and (edge.gateway, edge.credential.get_secret_value()) == ("https://g.example.com", "abc")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pool", "a b"), "--pool 'a b'"),
        (("--worker-id", "../x"), "--worker-id '../x'"),
        (("--max-batch", "0"), "greater than or equal to 1"),
        (("--gateway", "http://example.com", "--credential-file", "none"), "use https://"),
        (("--gateway", "https://example.com"), "--credential-file"),
        (("--gateway", "https://example.com", "--credential-file", "none"), "No such file"),
        (("--credential-file", "none"), "go with --gateway"),
    ],
)
def test_bad_values_are_named_with_the_fix(started: list[WorkerOptions], arguments: tuple[str, ...], words: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert started == []


def test_a_device_that_is_not_there_is_named_with_the_fix() -> None:
    result = call("--device", "tpu:0")
    assert result.exit_code == 2 and "use cpu or cuda:N" in result.output
