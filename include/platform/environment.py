"""The environment variables that every service of the local profile gets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import SecretStr

from include.config import PROJECT_ROOT, Settings
from include.platform.processes import SERVICE_VARIABLE

#: Nothing phones home, nothing fetches weights from a hub, and no library starts one thread per core on a shared machine.
QUIET = {
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONUNBUFFERED": "1",
    # Airflow renames its processes, by default over their environment, where `atelier down` looks for our mark.
    "SPT_NOENV": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
#: What services don't inherit: settings of other installations, and a ban on bytecode, for dozens of processes import the same libraries
#: and compiling them takes three times as long as importing them.
FOREIGN = ("AIRFLOW", "ATELIER_", "FLINK_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as ``ATELIER_*`` variables: what this process decided is what its services see."""

    def text(value: object) -> str:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    values |= {"home": settings.home.resolve(), "jars": settings.jars.resolve()}
    return {f"ATELIER_{name.upper()}": text(value) for name, value in values.items() if value is not None}


def shared_environment(settings: Settings, service: str) -> dict[str, str]:
    """The parent's environment with our settings, our Python first on PATH, and the mark of ``service``."""
    binaries = str(Path(sys.executable).parent)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **inherited,
        **QUIET,
        **settings_environment(settings),
        SERVICE_VARIABLE: service,
        "PATH": os.pathsep.join((binaries, os.environ.get("PATH", os.defpath))),
        "PYTHONPATH": str(PROJECT_ROOT),
        "MLFLOW_TRACKING_URI": settings.mlflow,
    }
