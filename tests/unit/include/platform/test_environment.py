from __future__ import annotations

from pathlib import Path

import pytest

from include.config import Settings
from include.platform.environment import settings_environment, shared_environment
from include.platform.processes import SERVICE_VARIABLE


def test_a_service_reads_the_settings_of_its_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None, home=tmp_path, gateway_port=1234, s3_secret_key="s3cret", worker_count=5, lease_s=2.5)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == settings


def test_other_installations_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW_HOME", "FLINK_CONF_DIR", "MLFLOW_REGISTRY_URI", "ATELIER_STRAY"):
        monkeypatch.setenv(name, "elsewhere")
    environment = shared_environment(Settings(_env_file=None, home=tmp_path), "gateway")
    assert "elsewhere" not in environment.values()
    assert environment[SERVICE_VARIABLE] == "gateway"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_services_keep_their_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in shared_environment(Settings(_env_file=None, home=tmp_path), "worker-0")
