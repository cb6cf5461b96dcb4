"""docker-compose.yaml runs services that the local profile has, and names no setting that does not exist."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from include.config import PROJECT_ROOT, Settings
from include.platform.services import local_services

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "atelier"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    home = tmp_path_factory.mktemp("home")
    (home / "kafka").mkdir()
    (home / "kafka" / "kafka_2.13.jar").touch()
    return {service.name for service in local_services(Settings(_env_file=None, home=home, jars=home))}


def test_each_container_runs_a_service_of_the_local_profile(local: set[str]) -> None:
    assert {service["command"][1] for service in OURS.values()} == local - {"store"}
    assert {service["command"][0] for service in OURS.values()} == {"run"}


def test_each_setting_exists() -> None:
    known = {f"ATELIER_{name.upper()}" for name in Settings.model_fields}
    used = {name for service in OURS.values() for name in service["environment"]}
    assert used and used <= known


def test_every_dependency_and_file_is_there() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
    assert (PROJECT_ROOT / COMPOSE["x-atelier"]["build"]["dockerfile"]).is_file()


def test_nothing_is_published_beyond_loopback() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in COMPOSE["services"]["kafka"]
