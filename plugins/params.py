"""Form fields that several DAGs have."""

from __future__ import annotations

from airflow.sdk import Param

from include.config import settings

NAME = "^[A-Za-z0-9][A-Za-z0-9._-]*$"


def name(default: str, description: str) -> Param:
    return Param(default, type="string", pattern=NAME, maxLength=64, description=description)


def model() -> Param:
    return name(settings().model_name, "Registered model in MLflow.")


def version(description: str) -> Param:
    return Param("", type="string", pattern="^[0-9]*$", maxLength=10, description=description)


def text(description: str, length: int = 500) -> Param:
    return Param("", type="string", maxLength=length, description=description)


def dataset_version(purpose: str) -> Param:
    return text(f"Dataset version {purpose}. A name, or an address: s3://bucket/prefix, or a folder, that holds its manifest.json.", 4096)


def number(default: int, low: int, high: int, description: str) -> Param:
    return Param(default, type="integer", minimum=low, maximum=high, description=description)


def tick(description: str) -> Param:
    return Param(False, type="boolean", description=description)


def percent(default: float, description: str) -> Param:
    return Param(default, type="number", minimum=0, maximum=1000, description=description)


def optional(kind: str, description: str, **bounds: float) -> Param:
    """A number that may be left empty."""
    return Param(None, type=["null", kind], description=description, **bounds)


def several(choices: list[str], description: str) -> Param:
    """Any of the choices, all of them unless fewer are given."""
    items = {"type": "string", "enum": choices}
    return Param(choices, type="array", items=items, examples=choices, uniqueItems=True, maxItems=len(choices), description=description)
