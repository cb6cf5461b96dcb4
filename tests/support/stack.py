"""The whole stack as a person starts it: through the `atelier` command, on free ports and in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from include.config import PROJECT_ROOT, Settings
from tests.support.services import PORTS

SMALL = ("--requests", "30", "--train-steps", "4", "--second-steps", "2", "--eval-prompts", "8", "--burst-seconds", "6")


def variables(settings: Settings) -> dict[str, str]:
    """What makes another process use this installation."""
    return {f"ATELIER_{name.upper()}": str(getattr(settings, name)) for name in (*PORTS, "home")}


def atelier(settings: Settings, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "include.platform.cli", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, **variables(settings)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
