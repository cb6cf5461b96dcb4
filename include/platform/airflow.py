"""Airflow for one machine: four processes over one SQLite file, with a configuration that is generated, never edited."""

from __future__ import annotations

import configparser
import io
import json
import secrets
import sqlite3
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from importlib.metadata import version
from pathlib import Path
from typing import Any

from include.config import PROJECT_ROOT, Settings
from include.platform.environment import shared_environment
from include.platform.files import secret, write_if_changed
from include.platform.http import probe_json, request_json
from include.platform.service import Service, Unhealthy

USER = "admin"

#: Four processes are started at the same time and each needs the same database.
_preparation = threading.Lock()


def airflow_home(settings: Settings) -> Path:
    return settings.home.resolve() / "airflow"


def database(settings: Settings) -> Path:
    return airflow_home(settings) / "airflow.db"


def _fernet_key(settings: Settings) -> str:
    path = airflow_home(settings) / "secrets" / "fernet"
    if not path.is_file():
        write_if_changed(path, urlsafe_b64encode(secrets.token_bytes(32)).decode(), mode=0o600)
    return path.read_text()


def _configuration(settings: Settings) -> dict[str, dict[str, object]]:
    home, keys = airflow_home(settings), airflow_home(settings) / "secrets"
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": 2,
            "dags_folder": PROJECT_ROOT / "dags",
            "plugins_folder": PROJECT_ROOT / "plugins",
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "execution_api_server_url": f"{settings.airflow}/execution/",
            "fernet_key": _fernet_key(settings),
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": home / "passwords.json",
        },
        "database": {"sql_alchemy_conn": settings.airflow_db or f"sqlite:///{database(settings)}"},
        "api": {
            "base_url": settings.airflow,
            "host": settings.host,
            "port": settings.airflow_port,
            "workers": 1,
            "secret_key": secret(keys / "api"),
            "instance_name": "Atelier",
        },
        "api_auth": {"jwt_secret": secret(keys / "jwt", 64)},
        "logging": {"base_log_folder": home / "logs", "logging_level": "INFO"},
        "scheduler": {"scheduler_heartbeat_sec": 2, "scheduler_idle_sleep_time": 0.5},
        "dag_processor": {
            "refresh_interval": 10,
            "bundle_refresh_check_interval": 5,
            # A changed file is read at once; that of the others is only looked at for what they import.
            "min_file_process_interval": 300,
            "parsing_processes": 1,
            "dag_bundle_storage_path": home / "bundles",
        },
        "usage_data_collection": {"enabled": False},
    }


def airflow_configuration(settings: Settings) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    # A percent sign would start an interpolation when Airflow reads the file.
    for section, keys in _configuration(settings).items():
        parser[section] = {key: str(value).replace("%", "%%") for key, value in keys.items()}
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def airflow_environment(settings: Settings) -> dict[str, str]:
    return {"AIRFLOW_HOME": str(airflow_home(settings)), "PYTHONPATH": str(PROJECT_ROOT)}


def airflow_command(*arguments: str) -> tuple[str, ...]:
    """The `airflow` command of this Python; its subcommands look for it on PATH, which the services' environment takes care of."""
    return (str(Path(sys.executable).parent / "airflow"), *arguments)


def _write_password(settings: Settings) -> None:
    path = airflow_home(settings) / "passwords.json"
    if not path.is_file():
        write_if_changed(path, json.dumps({USER: secrets.token_urlsafe(12)}) + "\n", mode=0o600)


def credentials(settings: Settings) -> tuple[str, str]:
    """User and password of the UI and the API; the file is there once Airflow was prepared."""
    return USER, json.loads((airflow_home(settings) / "passwords.json").read_text())[USER]


def token(settings: Settings) -> str:
    """A bearer token for Airflow's REST API. Raises :class:`OSError` when nobody answers."""
    user, password = credentials(settings)
    answer = request_json(f"{settings.airflow}/auth/token", "POST", {"username": user, "password": password}, timeout_s=15)
    return str(answer["access_token"])


def prepare_airflow(settings: Settings) -> None:
    """Configuration, admin, database. Migrating takes ten seconds and more, so it happens once for each version of Airflow."""
    with _preparation:
        _configure(settings)
        _migrate(settings)


def _configure(settings: Settings) -> None:
    home = airflow_home(settings)
    write_if_changed(home / "airflow.cfg", airflow_configuration(settings), mode=0o600)
    _write_password(settings)


def _migrate(settings: Settings) -> None:
    home = airflow_home(settings)
    stamp, current = home / "migrated", version("apache-airflow")
    exists = bool(settings.airflow_db) or database(settings).is_file()
    if stamp.is_file() and stamp.read_text() == current and exists:
        return
    environment = {**shared_environment(settings, "airflow-migrate"), **airflow_environment(settings)}
    done = subprocess.run(airflow_command("db", "migrate"), env=environment, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Airflow's database can't be migrated: {(done.stdout + done.stderr).strip()[-1500:]}")
    if settings.airflow_db:
        write_if_changed(stamp, current)
        return
    with sqlite3.connect(database(settings)) as connection:
        # Readers no longer wait for the writer: four processes share this file.
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    write_if_changed(stamp, current)


def _health(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = probe_json(f"{settings.airflow}/api/v2/monitor/health")
    return found


def check_component(settings: Settings, component: str) -> None:
    """``component`` as the health page calls it: metadatabase, scheduler, dag_processor, triggerer."""
    status = (_health(settings).get(component) or {}).get("status")
    if status != "healthy":
        raise Unhealthy(f"Airflow reports {component} as {status or 'not started'}")


def airflow_services(settings: Settings) -> list[Service]:
    components = {
        "airflow-api-server": ("metadatabase", ("api-server",)),
        "airflow-scheduler": ("scheduler", ("scheduler", "--skip-serve-logs")),
        "airflow-dag-processor": ("dag_processor", ("dag-processor",)),
        "airflow-triggerer": ("triggerer", ("triggerer", "--skip-serve-logs")),
    }
    return [_airflow_service(settings, name, component, arguments) for name, (component, arguments) in components.items()]


def _airflow_service(settings: Settings, name: str, component: str, arguments: tuple[str, ...]) -> Service:
    first = name == "airflow-api-server"
    return Service(
        name=name,
        command=airflow_command(*arguments),
        env=airflow_environment(settings),
        prepare=lambda: prepare_airflow(settings),
        check=lambda: check_component(settings, component),
        url=settings.airflow if first else "",
        start_s=90.0,
        stop_s=20,
    )
