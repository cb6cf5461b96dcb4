"""Bringing the local profile up: everything at once, each service as soon as those it needs are healthy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from include.config import Settings
from include.platform.processes import end_processes
from include.platform.service import Service
from include.platform.status import failure, last_line
from include.platform.supervisor import Supervisor, log_path

CHECK_EVERY_S = 0.5
#: Seconds of starts that end at once before a service counts as broken.
GIVE_UP_S = 25.0


class StartupError(RuntimeError):
    """A service did not become healthy; the text names each with its reason."""


@dataclass
class Progress:
    """One service on its way up, for the live table."""

    service: Service
    phase: str = "waiting"  #: waiting, preparing, starting, healthy, failed
    reason: str = ""
    started_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        return (self.ended_at or time.monotonic()) - self.started_at

    def end(self, phase: str, reason: str = "") -> None:
        self.phase, self.reason, self.ended_at = phase, reason, time.monotonic()
        self.done.set()


class Startup:
    """Runs once. ``progress`` may be read from another thread while :meth:`run` works."""

    def __init__(self, settings: Settings, services: Iterable[Service], timeout_s: float = 240.0) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings)
        self.progress = {service.name: Progress(service) for service in services}
        self.timeout_s = timeout_s
        self.stop = threading.Event()

    def run(self) -> None:
        """Returns when every service is healthy. Raises :class:`StartupError`; what did start stays up for a look at it."""
        self.supervisor.start([one.service for one in self.progress.values()])
        pool = ThreadPoolExecutor(max_workers=len(self.progress))
        try:
            list(pool.map(self._bring_up, self.progress.values()))
        finally:
            self.stop.set()
            pool.shutdown(cancel_futures=True)
        failed = [f"{name}: {one.reason}" for name, one in self.progress.items() if one.phase != "healthy"]
        if failed:
            raise StartupError("\n".join(failed))

    def _bring_up(self, one: Progress) -> None:
        try:
            self.await_healthy(one.service.depends_on)
            one.started_at = time.monotonic()
            one.phase = "preparing"
            one.service.prepare()
            one.phase = "starting"
            if one.service.is_ours:
                self.supervisor.start_program(one.service.name)
            self._await_health(one)
            one.service.on_healthy()
            one.end("healthy")
        except Exception as error:
            # Whatever went wrong belongs in this service's row, next to those that came up.
            one.end("failed", str(error) or type(error).__name__)

    def await_healthy(self, names: Iterable[str]) -> None:
        """Returns when these services are up. Raises :class:`StartupError` where one failed or the start was broken off."""
        for name in names:
            needed = self.progress[name]
            while not needed.done.wait(0.2):
                if self.stop.is_set():
                    raise StartupError("interrupted")
            if needed.phase != "healthy":
                raise StartupError(f"needs {name}")

    def _await_health(self, one: Progress) -> None:
        began = time.monotonic()
        while reason := self._not_up(one.service) or failure(one.service):
            one.reason = reason
            elapsed = time.monotonic() - began
            if elapsed > self.timeout_s or (elapsed > GIVE_UP_S and self._not_up(one.service)):
                raise StartupError(f"{one.reason}; last log line: {last_line(log_path(self.settings, one.service.name))}")
            if self.stop.wait(CHECK_EVERY_S):
                raise StartupError("interrupted")

    def _not_up(self, service: Service) -> str:
        """Why there is no process, empty when there is one or it isn't ours."""
        if not service.is_ours:
            return ""
        process = self.supervisor.info()[service.name]
        return "" if process.state in ("STARTING", "RUNNING") else f"{process.state.lower()} {process.error}".strip()


#: Who goes first when everything stops: those that talk to the others, then what they talked to.
STOP_LAST = ("kafka", "flink-jobmanager", "flink-taskmanager", "mlflow")


def stop_all(settings: Settings, say: Callable[[str], None]) -> None:
    """Stop every service and leave no process behind, with or without a living supervisor."""
    supervisor = Supervisor(settings)
    if supervisor.is_running():
        names = [name for name, info in supervisor.info().items() if info.pid]
        for wave in ([name for name in names if name not in STOP_LAST], [name for name in names if name in STOP_LAST]):
            say(f"stopping {', '.join(wave)}" if wave else "")
            supervisor.stop_programs(wave)
        supervisor.shutdown()
    left = end_processes(settings.home, grace_s=5.0)
    if left:
        say(f"ended what was left: {', '.join(left)}")
