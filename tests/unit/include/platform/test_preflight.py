"""The preflight runs on a bare Python, and names each missing thing with the command that brings it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from include.config import PROJECT_ROOT
from include.platform import preflight
from include.platform.ports import free_port
from tests.support.waiting import wait_for


def run_bare(path: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Without site-packages, and with nothing in the environment but PATH."""
    command = [sys.executable, "-S", "-m", "include.platform.preflight", *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env={"PATH": path, **variables}, capture_output=True, text=True, check=False)


def test_a_complete_machine_passes() -> None:
    done = run_bare(os.environ["PATH"])
    assert (done.returncode, done.stderr) == (0, "")


def test_each_missing_thing_gets_one_line_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "apt-get").touch(mode=0o755)
    done = run_bare(str(tmp_path))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "virtual environments" not in line]
    assert len(lines) == 2
    assert lines[0].startswith("no JDK 17 or later: ") and "openjdk-17" in lines[0]
    assert lines[1].startswith("no Maven (mvn): ") and "maven" in lines[1]


def test_an_old_jdk_is_named(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    done = run_bare(f"{tmp_path}:/bin:/usr/bin:{os.environ['PATH']}")
    assert "JDK 11 is too old, 17 or later is needed" in done.stderr


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 13)])
def test_an_unsupported_python_is_named(version: tuple[int, int]) -> None:
    problem = preflight.check_python(version, preflight.INSTALL["brew"])
    assert problem is not None
    assert f"Python {version[0]}.{version[1]}" in problem.what
    assert "brew install python" in problem.remedy


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_a_supported_python_passes(version: tuple[int, int]) -> None:
    assert preflight.check_python(version, {}) is None


def test_windows_is_sent_to_wsl() -> None:
    problem = preflight.check_system("Windows")
    assert problem is not None and "WSL" in problem.remedy


def test_a_taken_port_names_its_holder_and_the_variable() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        done = run_bare(os.environ["PATH"], "--ports", ATELIER_GATEWAY_PORT=str(port))
    mine = [line for line in done.stderr.splitlines() if f"port {port} " in line]
    assert done.returncode == 1
    assert len(mine) == 1
    assert f"taken by pid {os.getpid()} (" in mine[0]
    assert "export ATELIER_GATEWAY_PORT=" in mine[0]


def test_a_port_of_this_installation_is_fine(tmp_path: Path) -> None:
    port = free_port()
    script = f"import socket; s = socket.create_server(('127.0.0.1', {port})); s.accept()"
    environment = {"ATELIER_HOME": str(tmp_path), "ATELIER_SERVICE": "gateway"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as server:
        wait_for(lambda: not preflight.is_free(port), 10, "the server listens")
        try:
            assert preflight.check_port("ATELIER_GATEWAY_PORT", str(port), "the gateway", "127.0.0.1", tmp_path) is None
            other = preflight.check_port("ATELIER_GATEWAY_PORT", str(port), "the gateway", "127.0.0.1", tmp_path / "another")
            assert other is not None
        finally:
            server.kill()


@pytest.mark.parametrize("value", ["abc", "0", "65536", "-1"])
def test_a_port_that_is_no_port_is_named(value: str, tmp_path: Path) -> None:
    problem = preflight.check_port("ATELIER_FLINK_PORT", value, "Flink", "127.0.0.1", tmp_path)
    assert problem is not None and "ATELIER_FLINK_PORT" in problem.what and "65535" in problem.remedy


def test_ports_come_from_dotenv_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATELIER_FLINK_PORT", raising=False)
    monkeypatch.delenv("ATELIER_GATEWAY_PORT", raising=False)
    (tmp_path / ".env").write_text("# mine\nATELIER_FLINK_PORT=1234\nATELIER_GATEWAY_PORT='1234'\n")
    chosen = {name: value for name, value, _ in preflight.ports(preflight.environment(tmp_path))}
    assert chosen["ATELIER_FLINK_PORT"] == chosen["ATELIER_GATEWAY_PORT"] == "1234"
    assert any("more than one service" in problem.what for problem in preflight.port_problems(tmp_path))


def test_services_that_run_elsewhere_need_no_port() -> None:
    names = {name for name, *_ in preflight.ports({"ATELIER_KAFKA_BOOTSTRAP": "kafka:9092", "ATELIER_MLFLOW_URI": "http://mlflow"})}
    assert names == {"ATELIER_FLINK_PORT", "ATELIER_AIRFLOW_PORT", "ATELIER_GATEWAY_PORT"}


def test_defaults_are_those_of_the_settings() -> None:
    from include.config import Settings

    defaults = {f"ATELIER_{name.upper()}": field.default for name, field in Settings.model_fields.items() if name.endswith("_port")}
    assert defaults == {name: port for name, port, _ in preflight.PORTS}
