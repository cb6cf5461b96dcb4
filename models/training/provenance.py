"""How a model came about, written beside it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

RECORD = "training.json"
PACKAGE = Path(__file__).resolve().parent.parent
ENCODING = ("pipelines/text_encoder.py", "training/encoding.py", "training/families/hourglass.py", "training/families/stable_diffusion.py")


@lru_cache(maxsize=1)
def code_version() -> str:
    """SHA-256 over the sources of this package, committed or not, as they were at the first call: they may change during a run."""
    return _digest(sorted(PACKAGE.rglob("*.py")))


@lru_cache(maxsize=1)
def encoding_version() -> str:
    """The same over what runs frozen encoders, with the libraries under it: what they made before may differ from what they make now."""
    libraries = f"{torch.__version__} {transformers.__version__} {diffusers.__version__}"
    return f"{_digest(PACKAGE / name for name in ENCODING)} {libraries}"


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def write_training_record(directory: Path, facts: dict[str, Any]) -> Path:
    record = {
        "kind": "atelier-training",
        "schema_version": 1,
        "code_version": code_version(),
        "libraries": {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__},
        **facts,
    }
    path = directory / RECORD
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
