"""MLflow's word that an alias moved, so that the watcher looks at once. MLflow promises no delivery: the watcher polls all the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from include.registry.client import RegistryClient
from include.registry.errors import RegistryError

log = logging.getLogger(__name__)

NAME = "atelier-registry-watcher"
PATH = "/aliases"
MAX_BODY_BYTES = 64 * 1024
MAX_AGE_S = 300.0  #: an older delivery is a replay
READ_TIMEOUT_S = 5.0
EVENTS = [{"entity": "MODEL_VERSION_ALIAS", "action": action} for action in ("CREATED", "DELETED")]
VERSION, SIGNATURE, DELIVERY, TIMESTAMP = "v1", "x-mlflow-signature", "x-mlflow-delivery-id", "x-mlflow-timestamp"


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether MLflow signed it lately, with ``secret``: HMAC-SHA256 of delivery id, time and body, as mlflow.webhooks.delivery does.

    :param headers: with names in small letters
    """
    delivery, timestamp, given = (headers.get(name) or "" for name in (DELIVERY, TIMESTAMP, SIGNATURE))
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > MAX_AGE_S:
        return False
    digest = hmac.new(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return hmac.compare_digest(f"{VERSION},{base64.b64encode(digest).decode()}".encode(), given.encode())


class WebhookReceiver:
    """Listens on a free port of the loopback interface from its making until it is closed.

    :param on_event: called in a thread of the receiver's for each genuine delivery
    """

    def __init__(self, on_event: Callable[[], None]) -> None:
        self.secret = secrets.token_urlsafe(32)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.secret, on_event))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{PATH}"

    def register(self, client: RegistryClient) -> bool:
        """Have MLflow deliver here, in place of receivers of earlier starts. Whether it agrees: by default it refuses addresses of its
        own machine, and its database must be able to keep webhooks."""
        try:
            for known in client.call("GET", "webhooks").get("webhooks", ()):
                if known["name"] == NAME:
                    client.call("DELETE", f"webhooks/{known['webhook_id']}")
            client.call("POST", "webhooks", json={"name": NAME, "url": self.url, "events": EVENTS, "secret": self.secret})
        except RegistryError as error:
            log.info("MLflow tells of no moves by itself, so they are seen at the next look: %s", error)
            return False
        log.info("MLflow tells of moves at %s", self.url)
        return True


def _handler(secret: str, on_event: Callable[[], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_S

        def do_POST(self) -> None:
            self.send_response(self._take())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _take(self) -> HTTPStatus:
            length = self.headers.get("Content-Length") or ""
            if self.path != PATH:
                return HTTPStatus.NOT_FOUND
            if not length.isdecimal():
                return HTTPStatus.LENGTH_REQUIRED
            if int(length) > MAX_BODY_BYTES:
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not is_genuine(secret, headers, self.rfile.read(int(length)), time.time()):
                return HTTPStatus.UNAUTHORIZED
            on_event()
            return HTTPStatus.NO_CONTENT

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler
