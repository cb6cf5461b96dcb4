"""A real session cluster for tests, with the means to break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from include.config import Settings
from include.platform.flink import flink_home
from include.platform.flink_jobs import ALIVE, cancel_job, is_running, job, jobs, submit_job, why_failed
from tests.support.services import Running
from tests.support.waiting import wait_for


@dataclass
class FlinkCluster:
    settings: Settings
    jobmanager: Running
    taskmanager: Running
    submitted: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.settings.flink

    @property
    def home(self) -> Path:
        return flink_home(self.settings)

    def submit(
        self, script: Path | str, env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = (), restore: Path | None = None
    ) -> str:
        """Submit a Python job with extra environment variables for its client, wait until all its tasks run, return its id."""
        job_id = submit_job(self.settings, Path(script), arguments=arguments, env=env, restore=restore)
        self.submitted.append(job_id)
        self.wait_running(job_id)
        return job_id

    def wait_running(self, job_id: str, timeout: float = 90.0) -> None:
        def runs() -> bool:
            overview = job(self.settings, job_id)
            if overview is not None and overview["state"] == "FAILED":
                raise RuntimeError(f"job {job_id} failed: {why_failed(self.settings, job_id)}")
            return is_running(overview)

        wait_for(runs, timeout, f"job {job_id} running")

    def cancel(self, job_id: str) -> None:
        cancel_job(self.settings, job_id)
        wait_for(lambda: (job(self.settings, job_id) or {}).get("state") not in ALIVE, 60, f"job {job_id} cancelled")

    def cancel_all(self) -> None:
        for job_id in [found["jid"] for found in jobs(self.settings) if found["state"] in ALIVE]:
            self.cancel(job_id)

    def kill_taskmanager(self, replace: bool = True) -> None:
        """SIGKILL the TaskManager; by default a new one starts, as the supervisor of the local profile would do."""
        self.taskmanager.kill()
        if replace:
            self.taskmanager.restart()
