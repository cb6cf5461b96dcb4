"""Links from Airflow's menu to the other pages of the platform."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from include.config import settings


def _link(name: str, address: str) -> dict[str, Any]:
    return {"name": name, "href": address, "destination": "nav", "category": "browse"}


class PlatformLinks(AirflowPlugin):
    name = "platform_links"
    external_views = (
        _link("MLflow: models and runs", settings().mlflow),
        _link("Flink: the router", settings().flink),
        _link("Gateway: API", f"{settings().gateway}/docs"),
    )
