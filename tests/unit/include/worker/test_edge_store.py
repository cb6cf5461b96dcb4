"""What stands between an edge worker and its gateway."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import SecretStr

from include.storage import StoreUnavailable
from include.worker.edge_client import EdgeAccess, EdgeClient
from include.worker.edge_store import DIGEST, EdgeStore
from tests.support.http_server import serving


@contextmanager
def behind(answer: Callable[[], Response], **limits: float) -> Iterator[EdgeStore]:
    """A store whose gateway answers everything with that."""
    app = FastAPI()
    app.add_api_route("/{path:path}", answer, methods=["GET", "HEAD", "PUT"], response_model=None)
    with serving(app) as address:
        client = EdgeClient(EdgeAccess(gateway=address, credential=SecretStr("any")), worker_id="worker-0", incarnation="i-1")
        yield EdgeStore(client, **limits)
        client.close()


def test_a_page_of_a_proxy_is_worth_another_try_and_no_object() -> None:
    with behind(lambda: HTMLResponse("<h1>Please sign in</h1>")) as store:
        for ask in (
            lambda: store.put_if_absent("images/a.png", b"x", "image/png"),
            lambda: store.head("images/a.png"),
            lambda: store.get("images/a.png"),
        ):
            with pytest.raises(StoreUnavailable, match=r"text/html.* is no answer of the gateway.*--gateway"):
                ask()


def test_an_object_that_changed_on_its_way_is_worth_another_try() -> None:
    sent = hashlib.sha256(b"as it was stored").hexdigest()
    with (
        behind(lambda: Response(b"as it came out", headers={DIGEST: sent})) as store,
        pytest.raises(StoreUnavailable, match=rf"inputs/a\.png: its 14 bytes have sha256 .*, those that were stored {sent[:12]}"),
    ):
        store.get("inputs/a.png")


def test_an_object_that_comes_byte_by_byte_is_given_up() -> None:
    """Each read is within its timeout; only all of them together are not."""
    with serving_bytes(total_s=0.3) as store:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"GET .*inputs/a\.png: it does not get done in time"):
            store.get("inputs/a.png")
        assert time.monotonic() - began < 20


@contextmanager
def serving_bytes(**limits: float) -> Iterator[EdgeStore]:
    over = threading.Event()

    def bytewise() -> Iterator[bytes]:
        while not over.wait(0.05):
            yield b"x"

    with behind(lambda: StreamingResponse(bytewise()), **limits) as store:
        yield store
        over.set()
