"""The MLflow server: SQLite for metadata, a directory for artifacts, which clients reach through the server."""

from __future__ import annotations

import secrets
import sys
from base64 import urlsafe_b64encode

from include.config import Settings
from include.platform.files import write_if_changed
from include.platform.http import probe
from include.platform.service import Service, Unhealthy, nothing


def prepare_mlflow(settings: Settings) -> None:
    (settings.home / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)


def check_mlflow(settings: Settings) -> None:
    answer = probe(f"{settings.mlflow}/health").decode(errors="replace").strip()
    if answer != "OK":
        raise Unhealthy(f"/health says {answer[:120]!r}")


def backend_store(settings: Settings) -> str:
    return settings.mlflow_db or f"sqlite:///{settings.home.resolve()}/mlflow/mlflow.db"


def mlflow_command(settings: Settings) -> tuple[str, ...]:
    home = settings.home.resolve() / "mlflow"
    options = {
        "--backend-store-uri": backend_store(settings),
        "--artifacts-destination": (home / "artifacts").as_uri(),
        "--host": settings.host,
        "--port": str(settings.mlflow_port),
        "--workers": "1",
    }
    return (sys.executable, "-m", "mlflow", "server", "--serve-artifacts", *(part for option in options.items() for part in option))


def webhook_environment(settings: Settings) -> dict[str, str]:
    """What lets the server tell the registry watcher, on this machine, of moved aliases; by default it refuses such addresses."""
    key = settings.home / "mlflow" / "webhook-key"
    if not key.is_file():
        write_if_changed(key, urlsafe_b64encode(secrets.token_bytes(32)).decode(), mode=0o600)
    return {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key.read_text(),
        # For so long it would go on without a webhook that was just made, and tell nobody of a move in that time.
        "MLFLOW_WEBHOOK_CACHE_TTL": "0",
        "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "2",
    }


def mlflow_service(settings: Settings) -> Service:
    ours = not settings.mlflow_uri
    return Service(
        name="mlflow",
        command=mlflow_command(settings) if ours else (),
        env={
            # Its background jobs score traces; seven more processes for something that nobody here asks for.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_TRACKING_URI": backend_store(settings),
            **(webhook_environment(settings) if ours else {}),
        },
        prepare=(lambda: prepare_mlflow(settings)) if ours else nothing,
        check=lambda: check_mlflow(settings),
        url=settings.mlflow,
    )
