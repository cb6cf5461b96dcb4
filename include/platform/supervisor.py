"""supervisord: its generated configuration, starting and stopping it, and what it knows about each process."""

from __future__ import annotations

import getpass
import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.config import PROJECT_ROOT, Settings
from include.platform.environment import settings_environment, shared_environment
from include.platform.files import write_if_changed
from include.platform.processes import SERVICE_VARIABLE, end_processes, service_processes
from include.platform.service import Service

#: The kernel's limit for the path of a unix socket is 104 bytes on macOS, 108 on Linux.
SOCKET_PATH_LIMIT = 100

UP = ("STARTING", "RUNNING", "BACKOFF")


@dataclass(frozen=True, kw_only=True)
class ProcessInfo:
    """What supervisord says of a program."""

    name: str
    state: str  #: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL
    pid: int  #: 0 when there is no process
    uptime_s: float
    error: str  #: why it could not be started, or how it ended


def log_path(settings: Settings, name: str) -> Path:
    return settings.home.resolve() / "logs" / f"{name}.log"


def socket_path(settings: Settings) -> Path:
    """In the state directory, or under the temporary directory when that path is too long for a socket."""
    path = settings.home.resolve() / "run" / "supervisor.sock"
    if len(os.fsencode(path)) < SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"atelier-{os.getuid()}-{digest}.sock"


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _quote(value: str) -> str:
    """A value for supervisord's ``environment=``, whose quotes can't be escaped. Raises :class:`ValueError`."""
    if "\n" in value or ('"' in value and "'" in value) or value.strip("'\"") != value:
        raise ValueError(f"supervisord can't pass a value with line breaks, both kinds of quotes, or quotes at an end: {value!r}")
    mark = "'" if '"' in value else '"'
    return f"{mark}{_escape(value)}{mark}"


def _program(settings: Settings, service: Service) -> str:
    environment = {**settings_environment(settings), SERVICE_VARIABLE: service.name, **service.env}
    lines = {
        "command": _escape(shlex.join((sys.executable, "-m", "include.platform.launch", *service.command))),
        "directory": PROJECT_ROOT,
        "environment": ",".join(f"{key}={_quote(value)}" for key, value in environment.items()),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 5,
        "startretries": 1_000_000,
        "stopwaitsecs": service.stop_s,
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": _escape(str(log_path(settings, service.name))),
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": 3,
    }
    return f"[program:{service.name}]\n" + "".join(f"{key}={value}\n" for key, value in lines.items())


def configuration(settings: Settings, services: Iterable[Service]) -> str:
    home = _escape(str(settings.home.resolve()))
    as_root = f"user={getpass.getuser()}\n" if os.getuid() == 0 else ""
    head = f"""\
[unix_http_server]
file={_escape(str(socket_path(settings)))}
chmod=0700

[supervisord]
logfile={home}/logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={home}/run/supervisord.pid
identifier=atelier
{as_root}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return "\n".join([head, *(_program(settings, service) for service in services if service.is_ours)])


class Supervisor:
    """One installation's supervisord. Its methods may be called from several threads: each call has a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def _config(self) -> Path:
        return self.settings.home.resolve() / "run" / "supervisord.conf"

    def _call(self, method: str, *arguments: Any) -> Any:
        """Raises :class:`OSError` when there is no supervisord and :class:`xmlrpc.client.Fault` when it refuses."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{socket_path(self.settings)}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy, method)(*arguments)
        except http.client.HTTPException as error:
            raise ConnectionError(f"supervisord hung up: {error}") from error
        finally:
            transport.close()

    def is_running(self) -> bool:
        try:
            return bool(self._call("supervisor.getState")["statecode"] == 1)
        except OSError:
            return False

    def start(self, services: Iterable[Service]) -> None:
        """Make supervisord know exactly these services, start none of them, and end what an earlier supervisord that died left behind."""
        changed = self._write_configuration(services)
        if self.is_running():
            if changed:
                self._apply_configuration()
            return
        end_processes(self.settings.home)
        self._launch()

    def _write_configuration(self, services: Iterable[Service]) -> bool:
        for directory in ("logs", "run"):
            (self.settings.home / directory).mkdir(parents=True, exist_ok=True)
        # Secrets of the object store are among the settings.
        return write_if_changed(self._config, configuration(self.settings, services), mode=0o600)

    def _launch(self) -> None:
        command = (sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config))
        environment = shared_environment(self.settings, "supervisord")
        done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"supervisord does not start: {(done.stdout + done.stderr).strip()[-1000:]}")
        if not _within(15, self.is_running):
            raise RuntimeError(f"supervisord does not answer on {socket_path(self.settings)}; see its log in {self.settings.home}/logs")

    def _apply_configuration(self) -> None:
        """What ``supervisorctl update`` does: programs that changed or went away stop, changed and new ones are known afterwards."""
        ((added, changed, removed),) = self._call("supervisor.reloadConfig")
        for name in (*changed, *removed):
            self.stop_program(name)
            end_processes(self.settings.home, [name])
            self._call("supervisor.removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("supervisor.addProcessGroup", name)

    def start_program(self, name: str) -> None:
        """Start it unless it is up. Whether it stays up is the health check's business."""
        if self.info().get(name, _UNKNOWN).state not in UP:
            self._call("supervisor.startProcess", name, False)

    def stop_program(self, name: str, wait: bool = True) -> None:
        if self.info().get(name, _UNKNOWN).state in UP:
            self._call("supervisor.stopProcess", name, wait)

    def restart_program(self, name: str) -> None:
        self.stop_program(name)
        self.start_program(name)

    def stop_programs(self, names: Iterable[str], timeout_s: float = 40.0) -> None:
        """Stop several at once and wait for all; what is left after ``timeout_s`` is for the sweep."""
        stopping = set(names)
        for name in stopping:
            self.stop_program(name, wait=False)
        _within(timeout_s, lambda: not any(info.pid for name, info in self.info().items() if name in stopping))

    def shutdown(self) -> None:
        """Ask it to end, and wait a while until it did."""
        self._call("supervisor.shutdown")
        _within(5, lambda: not service_processes(self.settings.home, ["supervisord"]))

    def info(self) -> dict[str, ProcessInfo]:
        """Each program by name. Raises :class:`OSError` when there is no supervisord."""
        return {found["name"]: _process_info(found) for found in self._call("supervisor.getAllProcessInfo")}


def _within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


_UNKNOWN = ProcessInfo(name="", state="UNKNOWN", pid=0, uptime_s=0, error="")


def _process_info(found: Mapping[str, Any]) -> ProcessInfo:
    running = found["statename"] in ("RUNNING", "STARTING") and found["pid"]
    ended = "" if running or not found["stop"] else f"exit status {found['exitstatus']}"
    return ProcessInfo(
        name=found["name"],
        state=found["statename"],
        pid=found["pid"],
        uptime_s=max(0, found["now"] - found["start"]) if running else 0,
        error=found["spawnerr"] or ended,
    )
