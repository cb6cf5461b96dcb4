"""Real Redis and Memcached servers for tests, on free ports, that a test may stop and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from include.platform.ports import free_ports
from tests.support.waiting import wait_for

HOST = "127.0.0.1"
PACKAGES = {"redis": ("redis-server", "redis-server"), "memcached": ("memcached", "memcached")}


@dataclass
class CacheServer:
    kind: str  #: redis or memcached
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.kind}://{HOST}:{self.port}" + ("/0" if self.kind == "redis" else "")

    def start(self) -> None:
        program = PACKAGES[self.kind][0]
        arguments = {
            "redis": ["--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"],
            "memcached": ["-p", str(self.port), "-l", HOST, "-U", "0", "-u", "nobody"],
        }
        self.process = subprocess.Popen(
            [program, *arguments[self.kind]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True
        )
        wait_for(self._answers, 20, f"{program} on port {self.port}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)

    def _answers(self) -> bool:
        with socket.create_connection((HOST, self.port), timeout=1):
            return True


@contextmanager
def cache_server(kind: str) -> Iterator[CacheServer]:
    """Skips the test where the program is not installed."""
    program, package = PACKAGES[kind]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    server = CacheServer(kind)
    server.start()
    try:
        yield server
    finally:
        server.stop()
