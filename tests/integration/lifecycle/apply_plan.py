"""Applies a maintenance plan: ``python -m tests.integration.lifecycle.apply_plan HOME MLFLOW_URI RUN_ID``."""

from __future__ import annotations

import sys
from pathlib import Path

from include.config import Settings
from include.lifecycle.maintenance import steps

if __name__ == "__main__":
    home, uri, run_id = sys.argv[1:]
    steps.apply_plan(Settings(_env_file=None, home=Path(home), mlflow_uri=uri, kafka_bootstrap="127.0.0.1:1"), run_id)
