"""The MLflow server: SQLite for metadata, a directory for artifacts, which clients reach through the server."""

from __future__ import annotations

import sys

from include.config import Settings
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


def mlflow_service(settings: Settings) -> Service:
    ours = not settings.mlflow_uri
    return Service(
        name="mlflow",
        command=mlflow_command(settings) if ours else (),
        env={
            # Its background jobs score traces; seven more processes for something that nobody here asks for.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_TRACKING_URI": backend_store(settings),
        },
        prepare=(lambda: prepare_mlflow(settings)) if ours else nothing,
        check=lambda: check_mlflow(settings),
        url=settings.mlflow,
    )
