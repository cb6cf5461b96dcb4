"""Jobs on a session cluster: submit, watch, cancel, and find the checkpoint to go on from."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.config import PROJECT_ROOT, Settings
from include.platform.environment import shared_environment
from include.platform.flink import checkpoint_directory, flink_environment, flink_home
from include.platform.http import HttpError, request_json

#: States in which Flink itself still works at a job.
ALIVE = frozenset({"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "RECONCILING"})


class SubmissionError(RuntimeError):
    """The client could not submit a job; the text is the end of what it said, ``cause`` the line of it that says why."""

    @property
    def cause(self) -> str:
        raised = re.findall(r"^(?:Caused by: )?((?:[\w$]+\.)*\w*(?:Error|Exception)\b.*)$", str(self), re.MULTILINE)
        telling = [line for line in raised if "ProgramAbortException" not in line]
        # The job's own Python error tells more than the Java exceptions it ends up in.
        python = [line for line in telling if not line.startswith(("java.", "org.apache."))]
        return (python or telling or [str(self)])[-1]


class SubmissionTimeoutError(SubmissionError):
    """The client did not answer in time; the JobManager may have taken the job all the same."""


def submit_job(
    settings: Settings,
    script: Path,
    *,
    arguments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    restore: Path | None = None,
    timeout_s: float = 180.0,
) -> str:
    """Run ``flink run --detached`` on a Python job and return its id. Raises :class:`SubmissionError`."""
    from_state = ("-s", restore.resolve().as_uri()) if restore else ()
    target = f"{settings.host}:{settings.flink_port}"
    command = (str(flink_home(settings) / "bin" / "flink"), "run", "-d", "-m", target, *from_state, "-py", str(script), *arguments)
    environment = {**shared_environment(settings, "flink-client"), **flink_environment(settings), **(env or {})}
    try:
        done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise SubmissionTimeoutError(f"no answer from the Flink client in {timeout_s:g} s") from error
    submitted = re.search(r"JobID ([0-9a-f]{32})", done.stdout)
    if done.returncode or submitted is None:
        raise SubmissionError((done.stdout + done.stderr).strip()[-4000:])
    return submitted.group(1)


def jobs(settings: Settings) -> list[dict[str, Any]]:
    """Each job the JobManager knows: ``jid``, ``name``, ``state``, ``start-time`` (ms), ``tasks`` (count by state)."""
    found: list[dict[str, Any]] = request_json(f"{settings.flink}/jobs/overview")["jobs"]
    return found


def job(settings: Settings, job_id: str) -> dict[str, Any] | None:
    """The job's overview, None when the JobManager does not know it. Raises :class:`OSError` when there is no JobManager."""
    return next((found for found in jobs(settings) if found["jid"] == job_id), None)


def job_taken(settings: Settings, name: str, since: float) -> str:
    """The id of a living job of that name, taken by the JobManager since ``since``, seconds since 1970; empty where there is none."""
    found = (job for job in jobs(settings) if job["name"] == name and job["state"] in ALIVE and job["start-time"] >= 1000 * since)
    return str(next((job["jid"] for job in found), ""))


def is_running(overview: dict[str, Any] | None) -> bool:
    """Whether the job and each of its tasks run; a job counts as RUNNING for Flink while its tasks still deploy."""
    return overview is not None and overview["state"] == "RUNNING" and overview["tasks"]["running"] == overview["tasks"]["total"] > 0


def cancel_job(settings: Settings, job_id: str) -> None:
    """Ask for cancellation; a job that is gone already is fine."""
    try:
        request_json(f"{settings.flink}/jobs/{job_id}", method="PATCH")
    except HttpError as error:
        if error.status not in (404, 409):
            raise


def why_failed(settings: Settings, job_id: str) -> str:
    """The root of the job's newest exception, shortened."""
    history = request_json(f"{settings.flink}/jobs/{job_id}/exceptions?maxExceptions=1")["exceptionHistory"]["entries"]
    return history[0]["stacktrace"][:2000] if history else "no exception recorded"


def completed_checkpoints(settings: Settings) -> list[Path]:
    """Retained checkpoints of any job, the newest first. Flink renames ``_metadata`` into place when one is complete."""
    found = checkpoint_directory(settings).glob("*/chk-*/_metadata")
    return [metadata.parent for metadata in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]
