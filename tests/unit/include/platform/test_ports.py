from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from include.platform import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_listening_port_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)
    assert ports.accepts(taken)


def test_free_ports_are_distinct_and_free() -> None:
    found = ports.free_ports(20)
    assert len(set(found)) == 20
    assert all(ports.is_free(port) and not ports.accepts(port) for port in found)


def test_the_holder_is_named(taken: int) -> None:
    found = ports.holder(taken)
    assert found is not None
    pid, command = found
    assert pid == os.getpid()
    assert "pytest" in command


def test_nobody_holds_a_free_port() -> None:
    assert ports.holder(ports.free_port()) is None
