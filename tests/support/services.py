"""The local profile's real services for tests: the same commands and checks, on free ports, in a directory of the session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from include.config import PROJECT_ROOT, Settings
from include.platform.environment import shared_environment
from include.platform.ports import free_ports
from include.platform.processes import end_processes
from include.platform.service import Service, Unhealthy
from tests.support.waiting import wait_for

PORTS = ("kafka_port", "kafka_controller_port", "flink_port", "mlflow_port", "airflow_port", "gateway_port")


def free_settings(home: Path, **changes: object) -> Settings:
    """Settings of an installation of its own at ``home``: free ports, nothing read from the developer's ``.env``."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    return Settings(_env_file=None, home=home, **{**ports, **changes})


def spawn(service: Service, settings: Settings, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a service's process in a group of its own; it must be prepared.

    All are of one session, as under the local profile's supervisor: Linux shares its cores out among sessions first.
    """
    environment = {**shared_environment(settings, service.name), **service.env}
    return subprocess.Popen(
        service.command, cwd=PROJECT_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )


def is_healthy(service: Service) -> bool:
    try:
        service.check()
    except Unhealthy as error:
        raise AssertionError(str(error)) from error
    return True


class Running:
    """A started service; :meth:`restart` brings it back after a test killed it."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.log = settings.home / "logs" / f"{service.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.service.prepare()
        with self.log.open("ab") as log:
            self.process = spawn(self.service, self.settings, log)

    def wait_healthy(self, timeout: float = 240.0) -> None:
        def healthy() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"{self.service.name} exited with {self.process.returncode}:\n{self.tail()}")
            return is_healthy(self.service)

        wait_for(healthy, timeout, f"{self.service.name} healthy (log: {self.log})", interval=0.25)
        self.service.on_healthy()

    def kill(self) -> None:
        """SIGKILL to every process of the service."""
        end_processes(self.settings.home, [self.service.name], grace_s=0)
        self.reap()

    def reap(self) -> None:
        if self.process is not None:
            self.process.wait(timeout=30)

    def restart(self, timeout: float = 240.0) -> None:
        self.start()
        self.wait_healthy(timeout)

    def tail(self, characters: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


@contextmanager
def running(settings: Settings, *services: Service) -> Iterator[list[Running]]:
    """Start the services together, wait until each is healthy, and kill them all: what they leave is thrown away with their directory."""
    started = [Running(service, settings) for service in services]
    with ExitStack() as stack:
        for one in started:
            stack.callback(one.kill)
            one.start()
        for one in started:
            one.wait_healthy()
        yield started
