"""How a model came about, written beside it."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch

from models.pipelines.text_to_image import DEFAULT_STEPS
from models.training.state import TrainingState

RECORD = "training.json"
PACKAGE = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def code_version() -> str:
    """SHA-256 over the sources of this package, committed or not, as they were at the first call: they may change during a run."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def write_training_record(directory: Path, state: TrainingState, facts: dict[str, Any]) -> Path:
    network = state.averaged.config
    record = {
        "kind": "atelier-training",
        "schema_version": 1,
        "steps": state.step,
        "samples_seen": state.step * state.config.batch_size,
        "seed": state.config.seed,
        "code_version": code_version(),
        "libraries": {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__},
        "defaults": {
            "width": network.sample_size,
            "height": network.sample_size,
            "steps": DEFAULT_STEPS,
            "guidance": state.config.guidance,
        },
        **facts,
    }
    path = directory / RECORD
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
