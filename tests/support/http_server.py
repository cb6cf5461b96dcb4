"""An ASGI application behind a real HTTP server on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from include.platform.ports import free_ports
from tests.support.waiting import wait_for


@contextmanager
def serving(app: FastAPI, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[str]:
    """The server's address; over TLS where a certificate is given."""
    port = free_ports(1)[0]
    config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", ssl_certfile=certificate, ssl_keyfile=key)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, 20, "the HTTP server")
    yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
