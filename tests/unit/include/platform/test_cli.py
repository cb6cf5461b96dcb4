"""The command loads fast and fails with words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from typer.testing import CliRunner

from include.config import settings
from include.platform.cli import LAZY, app
from include.platform.lazy import LazyGroup, load
from tests.support.services import free_settings

HEAVY = ("torch", "airflow", "mlflow", "pyflink", "confluent_kafka", "boto3", "fastapi")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A runner whose commands see an installation of its own, of which nothing runs."""
    from include.platform.environment import settings_environment

    for name, value in settings_environment(free_settings(tmp_path / "home")).items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield CliRunner()
    settings.cache_clear()


def test_help_imports_nothing_heavy() -> None:
    script = f"import sys, include.platform.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_commands_that_are_not_loaded(runner: CliRunner) -> None:
    shown = runner.invoke(app, ["--help"]).output
    assert all(name in shown for name in ("up", "down", "status", "logs", "preflight", *LAZY))


@pytest.mark.parametrize("name", sorted(LAZY))
def test_each_lazy_command_exists(name: str) -> None:
    assert load(name, LAZY[name][0]).name == name


def test_a_lazy_command_gets_its_arguments() -> None:
    class Group(LazyGroup):
        lazy: ClassVar = {"greet": (f"{__name__}:greet", "Greets.")}

    sys.modules.setdefault(__name__, sys.modules[greet.__module__])
    small = typer.Typer(cls=Group)

    @small.callback()
    def root() -> None:
        """A group, although it has one command."""

    assert CliRunner().invoke(small, ["greet", "you"]).output == "hello you\n"


def greet(name: str) -> None:
    typer.echo(f"hello {name}")


def test_status_of_nothing_is_all_down_and_exit_1(runner: CliRunner) -> None:
    result = runner.invoke(app, ["status", "--json"])
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert result.exit_code == 1
    assert rows["gateway"]["state"] == "down"
    assert rows["store"]["state"] == "unreachable"
    assert rows["kafka"]["reason"] == "no supervisor: `atelier up` starts it"
    assert {"kafka", "flink-jobmanager", "router", "worker-0", "worker-1", "airflow-scheduler"} <= set(rows)


def test_an_unknown_log_names_those_there_are(runner: CliRunner) -> None:
    log = settings().home / "logs" / "kafka.log"
    log.parent.mkdir(parents=True)
    log.touch()
    result = runner.invoke(app, ["logs", "kafak"])
    assert result.exit_code == 2
    assert "no log of 'kafak'; there are: kafka" in result.output


def test_down_of_nothing_is_fine(runner: CliRunner) -> None:
    result = runner.invoke(app, ["down"])
    assert result.exit_code == 0
    assert "stopped" in result.output
