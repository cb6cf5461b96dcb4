"""Command lines of small training runs, and a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from models.training.samples import files
from tests.support.s3 import S3Server
from tests.unit.models.conftest import TINY

STEPS = 8


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server that the environment names."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    files._client.cache_clear()
    return s3_server


@pytest.fixture
def arguments(manifest: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of a run by its name, with changes to its settings."""
    settings = {
        "max_steps": STEPS, "batch_size": 4, "warmup_steps": 2, "threads": 1, "log_every": 1, "checkpoint_every": 100, "validate_every": 4,
        "network": TINY, "sample_prompts": ["red square"], "sample_steps": 2,
    }  # fmt: skip

    def of(name: str, *more: str, **changes: object) -> list[str]:
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**settings, **changes}))
        return ["--config", str(config), "--dataset", str(manifest), "--output", str(tmp_path / name), *more]

    return of
