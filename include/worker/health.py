"""The worker's health file: what `atelier status` reads, also while no broker is there to ask."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from include.worker.kept import write_whole

log = logging.getLogger(__name__)


def health_path(home: Path, worker_id: str) -> Path:
    return home / "run" / f"worker-{worker_id.removeprefix('worker-')}.json"


class HealthFile:
    """One JSON object, replaced as a whole; removed when the worker ends in order. A disk that does not take it is told of once and is no
    reason for the worker to end."""

    def __init__(self, path: Path, fixed: dict[str, Any]) -> None:
        self.path = path
        self.fixed = {**fixed, "pid": os.getpid()}
        self._failed = False

    def write(self, **content: Any) -> None:
        try:
            write_whole(self.path, json.dumps({**self.fixed, **content}))
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("%s can't be written, so `atelier status` sees an old state: %s", self.path, error)
            self._failed = True

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
