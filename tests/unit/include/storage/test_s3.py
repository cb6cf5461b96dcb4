"""A server that is not there, and one that gives half of an object, or gives it too slowly."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pydantic import SecretStr

from include.platform.ports import free_ports
from include.storage.base import InvalidKeyError, StoreUnavailable
from include.storage.s3 import S3Store


@pytest.fixture
def nowhere() -> S3Store:
    return S3Store(
        "bucket",
        "prefix",
        endpoint=f"http://127.0.0.1:{free_ports(1)[0]}",
        access_key=SecretStr("a"),
        secret_key=SecretStr("b"),
        timeout_s=1,
    )


def test_every_call_says_that_the_store_is_away(nowhere: S3Store) -> None:
    for call in (
        lambda: nowhere.put_if_absent("a.png", b"x", "image/png"),
        lambda: nowhere.get("a.png"),
        lambda: nowhere.head("a.png"),
        lambda: list(nowhere.list()),
        lambda: nowhere.delete("a.png"),
    ):
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/prefix/.* at http://127\.0\.0\.1"):
            call()


def test_the_prefix_is_checked() -> None:
    with pytest.raises(InvalidKeyError):
        S3Store("bucket", "a/../b")


@contextmanager
def answering(head: bytes, body: bytes, *, stalls: bool = False, trickles: bool = False, **limits: float) -> Iterator[S3Store]:
    """A store on a server that sends these bytes to every question, and then hangs up, says nothing more or one byte now and then."""
    over = threading.Event()

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
            if stalls:
                over.wait(60)
            while trickles and not over.wait(0.05):
                with suppress(OSError):
                    self.wfile.write(b"x")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        yield S3Store("bucket", endpoint=address, access_key=SecretStr("a"), secret_key=SecretStr("b"), timeout_s=0.5, **limits)
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("head", "body"),
    [(b"Content-Length: 100\r\n", b"x" * 50), (b"Transfer-Encoding: chunked\r\n", b"32\r\n" + b"x" * 50 + b"\r\n")],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("stalls", [False, True], ids=["hangs up", "stalls"])
def test_half_an_object_is_none(head: bytes, body: bytes, stalls: bool) -> None:
    with answering(head, body, stalls=stalls) as store:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/a\.png at http://127"):
            store.get("a.png")
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("head", [b"Content-Length: 1000\r\n", b"X-Long: "], ids=["body", "head"])
def test_an_object_that_comes_byte_by_byte_is_given_up(head: bytes) -> None:
    """Each read is within its timeout; only all of them together are not."""
    with answering(head.removesuffix(b"\r\n") if head.endswith(b": ") else head, b"", trickles=True, total_s=0.4) as store:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/a\.png at http://127.*: it does not get done in time"):
            store.get("a.png")
        assert time.monotonic() - began < 20


def test_an_object_that_changed_on_its_way_is_none() -> None:
    with (
        answering(b"Content-Length: 1\r\nx-amz-meta-sha256: " + b"0" * 64 + b"\r\n", b"x") as store,
        pytest.raises(
            StoreUnavailable, match=r"s3://bucket/a\.png: its 1 bytes have sha256 2d711642b726…, those that were stored 000000000000…"
        ),
    ):
        store.get("a.png")
