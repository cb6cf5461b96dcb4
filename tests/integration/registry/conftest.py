from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest


@pytest.fixture
def name() -> str:
    """A registered model's name of the test's own."""
    return f"model-{uuid.uuid4().hex[:8]}"


def write_model(directory: Path, content: str = "one") -> Path:
    (directory / "network").mkdir(parents=True, exist_ok=True)
    (directory / "model_index.json").write_text(json.dumps({"_class_name": "Any", "content": content}))
    (directory / "network" / "weights.safetensors").write_bytes(content.encode() * 10_000)
    return directory


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")
