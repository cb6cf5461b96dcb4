"""The worker's health file: what `atelier status` reads, also while no broker is there to ask."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def health_path(home: Path, worker_id: str) -> Path:
    return home / "run" / f"worker-{worker_id.removeprefix('worker-')}.json"


class HealthFile:
    """One JSON object, replaced as a whole; removed when the worker ends in order."""

    def __init__(self, path: Path, fixed: dict[str, Any]) -> None:
        self.path = path
        self.fixed = {**fixed, "pid": os.getpid()}

    def write(self, **content: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({**self.fixed, **content}), encoding="utf-8")
        part.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
