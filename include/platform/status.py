"""The state of each service: what supervisord knows of its process, and what its own health check says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from include.config import Settings
from include.platform.service import Service, State, Unhealthy
from include.platform.supervisor import ProcessInfo, Supervisor, log_path


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    name: str
    state: State
    reason: str = ""  #: why it is not healthy
    url: str = ""
    pid: int = 0
    uptime_s: float = 0.0
    last_log: str = ""
    notes: tuple[str, ...] = ()  #: what people should know or do although it is healthy

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "state": str(self.state)}


def failure(service: Service) -> str:
    """Why the service's check does not pass; empty when it does."""
    try:
        service.check()
    except Unhealthy as error:
        return str(error)
    except Exception as error:
        # A check may fail in a way that its author did not foresee; the table must still show the other services.
        return f"the check itself failed: {type(error).__name__}: {error}"
    return ""


def notes_of(service: Service) -> tuple[str, ...]:
    try:
        return tuple(service.notes())
    except Exception as error:
        return (f"what there is to know can't be told: {error or type(error).__name__}",)


def last_line(path: Path, window: int = 4096) -> str:
    """The last line of a log that says something."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - window))
        lines = stream.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _judge(service: Service, process: ProcessInfo | None, supervised: bool) -> tuple[State, str]:
    if not service.is_ours:
        reason = failure(service)
        return (State.UNREACHABLE if reason else State.HEALTHY), reason
    if process is None:
        return State.DOWN, "not known to the supervisor: `atelier up` adds it" if supervised else "no supervisor: `atelier up` starts it"
    if process.state not in ("RUNNING", "STARTING"):
        again = "; starts again by itself" if process.state == "BACKOFF" else ""
        return State.DOWN, f"{process.state.lower()}{': ' if process.error else ''}{process.error}{again}"
    reason = failure(service)
    if not reason:
        return State.HEALTHY, ""
    return (State.STARTING if process.uptime_s < service.start_s else State.UNREACHABLE), reason


def service_status(settings: Settings, service: Service, processes: dict[str, ProcessInfo] | None) -> ServiceStatus:
    """``processes`` is what supervisord says, None when there is no supervisord."""
    process = (processes or {}).get(service.name)
    state, reason = _judge(service, process, processes is not None)
    return ServiceStatus(
        name=service.name,
        state=state,
        reason=reason,
        url=service.url,
        pid=process.pid if process else 0,
        uptime_s=process.uptime_s if process else 0.0,
        last_log=last_line(log_path(settings, service.name)),
        notes=notes_of(service) if state is State.HEALTHY else (),
    )


def status(settings: Settings, services: Iterable[Service]) -> list[ServiceStatus]:
    """All services at once: one that does not answer costs its own timeout, not everyone's."""
    services = list(services)
    try:
        processes: dict[str, ProcessInfo] | None = Supervisor(settings).info()
    except OSError:
        processes = None
    with ThreadPoolExecutor(max_workers=len(services)) as pool:
        return list(pool.map(lambda service: service_status(settings, service, processes), services))
