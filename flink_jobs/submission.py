"""What the router job asks of a session cluster."""

from __future__ import annotations

import os
import sys
import sysconfig

from include.config import PROJECT_ROOT, Settings

JOB_NAME = "route_requests"


def job_configuration(checkpoint_s: float) -> dict[str, str]:
    """What this job asks of Flink whatever the cluster's own configuration says."""
    return {
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.pythonpath": os.pathsep.join((sysconfig.get_paths()["purelib"], str(PROJECT_ROOT))),
        "python.fn-execution.bundle.size": "1",
        "execution.buffer-timeout.interval": "0ms",
        # No step keeps a row that it handed on; copies between the steps of a task were half of what the collector had to take away.
        "pipeline.object-reuse": "true",
        "execution.checkpointing.interval": f"{round(1000 * checkpoint_s)}ms",
        "execution.checkpointing.min-pause": f"{round(500 * checkpoint_s)}ms",
        # The barrier of an unaligned checkpoint overtakes the batch requests that are held before the scheduler; see docs/decisions/0008.
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.unaligned.enabled": "true",
        "execution.checkpointing.timeout": "60s",
        "execution.checkpointing.tolerable-failed-checkpoints": "10",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1s",
        "restart-strategy.exponential-delay.max-backoff": "15s",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "5min",
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": "40",
        "pipeline.max-parallelism": "128",
    }


def archive_configuration(settings: Settings, interval: str) -> dict[str, str]:
    """What the archive job asks of Flink. Its checkpoints lie apart: the router goes on from the newest of those in the usual folder.

    Raises :class:`FileNotFoundError` where the jars of the Parquet format are missing.
    """
    folder = settings.jars.resolve() / "parquet"
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"no Parquet format in {folder}: fetch it with `make jars`")
    return {
        "pipeline.jars": ";".join(jar.as_uri() for jar in jars),
        "parallelism.default": "1",
        "execution.checkpointing.interval": interval,
        "execution.checkpointing.dir": (settings.home.resolve() / "flink" / "archive-checkpoints").as_uri(),
        "table.local-time-zone": "UTC",
    }
