"""Keeps the router job on the session cluster: submits it, watches it, submits it again from the newest checkpoint when it is gone.

Runs as a service of its own (``python -m include.platform.router``). A JobManager without high availability forgets its jobs when it
dies; the checkpoints stay, and this process is what brings the job back from them.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from include.config import PROJECT_ROOT, Settings, settings
from include.platform.files import write_if_changed
from include.platform.flink import check_taskmanager
from include.platform.flink_jobs import (
    ALIVE,
    SubmissionError,
    SubmissionTimeoutError,
    completed_checkpoints,
    is_running,
    job,
    job_taken,
    submit_job,
    why_failed,
)
from include.platform.http import HttpError
from include.platform.service import Service, Unhealthy

JOB = PROJECT_ROOT / "flink_jobs" / "route_requests.py"
POLL_S = 1.0
MAX_BACKOFF_S = 30.0
#: Failures of jobs started from one checkpoint before an older one is tried.
TRIES_PER_CHECKPOINT = 3

log = logging.getLogger("router")


@dataclass(frozen=True)
class RouterState:
    """What the router service knows, for its own next start and for ``atelier status``."""

    job_id: str = ""
    reason: str = ""  #: why there is no job


def state_path(settings: Settings) -> Path:
    return settings.home / "run" / "router.json"


def read_state(settings: Settings) -> RouterState:
    path = state_path(settings)
    return RouterState(**json.loads(path.read_text())) if path.is_file() else RouterState()


def write_state(settings: Settings, state: RouterState) -> None:
    write_if_changed(state_path(settings), json.dumps(asdict(state)) + "\n")


def check_router(settings: Settings) -> None:
    """The job and all its tasks run."""
    state = read_state(settings)
    if not state.job_id:
        raise Unhealthy(state.reason or "the job is not submitted yet")
    try:
        overview = job(settings, state.job_id)
    except (OSError, HttpError) as error:
        raise Unhealthy(f"the JobManager does not answer: {error}") from error
    if not is_running(overview):
        raise Unhealthy(f"job {state.job_id[:8]} is {overview['state'] if overview else 'not known to the JobManager'}")


class Router:
    """The watch over one job; setting ``stop`` ends :meth:`run` and leaves the job as it is."""

    def __init__(self, settings: Settings, script: Path = JOB, stop: threading.Event | None = None) -> None:
        self.settings = settings
        self.script = script
        self.stop = stop or threading.Event()
        self.job_id = read_state(settings).job_id
        self.failures: dict[Path, int] = {}
        self.restored: Path | None = None
        self.unanswered_at: float | None = None  #: when a submission began that got no answer, seconds since 1970
        self.backoff_s = POLL_S

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.step()
            except SubmissionError as error:
                log.warning("the Flink client said:\n%s", error)
                self.pause(f"submission failed: {error.cause}")
            except (OSError, HttpError, Unhealthy) as error:
                self.pause(str(error))
            self.stop.wait(POLL_S)

    def pause(self, reason: str) -> None:
        self.note(reason)
        self.stop.wait(self.backoff_s)
        self.backoff_s = min(self.backoff_s * 2, MAX_BACKOFF_S)

    def note(self, reason: str) -> None:
        log.warning("%s; next try in %.0f s", reason, self.backoff_s)
        if not self.job_id:
            write_state(self.settings, RouterState(reason=reason[-500:]))

    def step(self) -> None:
        """One look: leave a living job alone, replace any other. Raises what the cluster or the client says when that can't be done."""
        check_taskmanager(self.settings)
        overview = job(self.settings, self.job_id) if self.job_id else None
        if overview is not None and overview["state"] in ALIVE:
            self.backoff_s = POLL_S if is_running(overview) else self.backoff_s
            return
        if overview is not None:
            self.record_end(overview["state"])
        self.submit()

    def record_end(self, state: str) -> None:
        reason = f"job {self.job_id[:8]} is {state}: {why_failed(self.settings, self.job_id)}"
        self.job_id = ""
        if self.restored is not None and state == "FAILED":
            self.failures[self.restored] = self.failures.get(self.restored, 0) + 1
        self.pause(reason)

    def checkpoint(self) -> Path | None:
        """The newest checkpoint that has not failed too often. Never a fresh start while one exists: that would drop the queue."""
        found = completed_checkpoints(self.settings)
        usable = [path for path in found if self.failures.get(path, 0) < TRIES_PER_CHECKPOINT]
        if found and not usable:
            self.failures.clear()
            usable = found
        return usable[0] if usable else None

    def submit(self) -> None:
        """Takes the job of an earlier submission that got no answer, where there is one: two of it would dispatch everything twice."""
        self.job_id = ""
        if self.unanswered_at is not None:
            self.job_id = job_taken(self.settings, self.script.stem, self.unanswered_at)
        if not self.job_id:
            self.submit_anew()
        self.unanswered_at = None
        write_state(self.settings, RouterState(job_id=self.job_id))

    def submit_anew(self) -> None:
        self.restored = self.checkpoint()
        log.info("submitting %s from %s", self.script.name, self.restored or "an empty state")
        started = time.time()
        try:
            self.job_id = submit_job(self.settings, self.script, restore=self.restored)
        except SubmissionTimeoutError:
            self.unanswered_at = self.unanswered_at or started
            raise
        log.info("job %s submitted in %.1f s", self.job_id, time.time() - started)


def router_service(settings: Settings, command: tuple[str, ...]) -> Service:
    return Service(
        name="router",
        command=command,
        depends_on=("kafka", "flink-taskmanager"),
        check=lambda: check_router(settings),
        url=settings.flink,
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-5s %(message)s")
    router = Router(settings())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: router.stop.set())
    router.run()


if __name__ == "__main__":
    main()
