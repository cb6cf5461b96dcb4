"""MLflow as its own UI speaks to it: plain REST."""

from __future__ import annotations

import httpx

from include.config import Settings
from include.demo.steps import StepFailedError


def move_alias(settings: Settings, model: str, version: str, alias: str = "champion") -> None:
    """The request that the UI sends when a person moves an alias. Raises :class:`StepFailedError`."""
    body = {"name": model, "alias": alias, "version": version}
    try:
        reply = httpx.post(f"{settings.mlflow}/ajax-api/2.0/mlflow/registered-models/alias", json=body, timeout=20)
    except httpx.HTTPError as error:
        raise StepFailedError(f"MLflow at {settings.mlflow} does not answer: {error}") from error
    if reply.is_error:
        raise StepFailedError(f"MLflow refused to move {alias} of {model} to version {version}: {reply.status_code} {reply.text[:300]}")


def model_url(settings: Settings, model: str, version: str | None = None) -> str:
    return f"{settings.mlflow}/#/models/{model}" + (f"/versions/{version}" if version else "")
