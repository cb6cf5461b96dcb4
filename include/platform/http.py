"""JSON over HTTP to our own services, with the standard library so that `atelier status` starts fast."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from include.platform.service import Unhealthy

#: Loopback traffic must not go through a proxy that the user's environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(Exception):
    """An answer with an error status; ``status`` is the code, the text is the body's beginning."""

    def __init__(self, url: str, status: int, body: str) -> None:
        super().__init__(f"{url} answered {status}: {body[:500]}")
        self.status = status
        self.body = body


def request(url: str, method: str = "GET", body: object = None, timeout_s: float = 5.0, headers: dict[str, str] | None = None) -> bytes:
    """The body of the answer. Raises :class:`HttpError` on an error status and :class:`OSError` when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    content = {"Content-Type": "application/json"} if data is not None else {}
    try:
        with _opener.open(urllib.request.Request(url, data, {**content, **(headers or {})}, method=method), timeout=timeout_s) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise HttpError(url, error.code, error.read().decode(errors="replace")) from error


def request_json(url: str, method: str = "GET", body: object = None, timeout_s: float = 5.0, headers: dict[str, str] | None = None) -> Any:
    answer = request(url, method, body, timeout_s, headers)
    return json.loads(answer) if answer else None


def probe(url: str, timeout_s: float = 3.0) -> bytes:
    """The body of a health address; raises :class:`Unhealthy` with a short reason."""
    try:
        return request(url, timeout_s=timeout_s)
    except HttpError as error:
        raise Unhealthy(f"answers {error.status}: {error.body[:120].strip()}") from error
    except OSError as error:
        raise Unhealthy(f"no answer at {url}: {getattr(error, 'reason', error)}") from error


def probe_json(url: str, timeout_s: float = 3.0) -> Any:
    try:
        return json.loads(probe(url, timeout_s))
    except ValueError as error:
        raise Unhealthy(f"{url} answers no JSON") from error
