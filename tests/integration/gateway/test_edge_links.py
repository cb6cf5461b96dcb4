"""What every link to the router does, over real Kafka and through a real gateway in front of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from include.config import Settings
from include.contracts import topics as names
from include.contracts.dispatch import AnyDispatchMessage, Lease, Revoke
from include.contracts.workers import Credit, Hello, WorkerMessage, worker_messages
from include.gateway.edge.keys import EdgeCaller, create_edge_key
from include.platform.ports import free_ports
from include.worker.edge_client import EdgeAccess, EdgeClient
from include.worker.edge_link import EdgeLink
from include.worker.link import WorkerLink
from include.worker.surroundings import Link
from tests.integration.gateway.conftest import GatewayProcess, running_gateway
from tests.support.kafka_client import TopicReader, send
from tests.support.leases import lease_of, render_task
from tests.support.waiting import wait_for

POOL = "standard"
NewLink = Callable[..., Link]


@pytest.fixture
def gateway(topics: Settings, tmp_path) -> Iterator[GatewayProcess]:
    with running_gateway(topics.model_copy(update={"home": tmp_path, "gateway_port": free_ports(1)[0]})) as process:
        yield process


def edge_client(gateway: GatewayProcess, worker_id: str = "worker-0", incarnation: str = "i-1") -> EdgeClient:
    credential = create_edge_key(gateway.settings.home, EdgeCaller(workers=worker_id, pool=POOL))
    return EdgeClient(
        EdgeAccess(gateway=gateway.settings.gateway, credential=SecretStr(credential)), worker_id=worker_id, incarnation=incarnation
    )


@pytest.fixture(params=["kafka", "gateway"])
def new_link(request: pytest.FixtureRequest, topics: Settings) -> Iterator[NewLink]:
    """Makes links of worker-0; all are closed after the test."""
    with ExitStack() as stack:

        def make(incarnation: str = "i-1") -> Link:
            identity = {"pool": POOL, "worker_id": "worker-0", "incarnation": incarnation}
            if request.param == "kafka":
                link: Link = WorkerLink(topics, **identity)
            else:
                client = edge_client(request.getfixturevalue("gateway"), incarnation=incarnation)
                link = EdgeLink(client, cell=topics.cell, **identity)
            stack.callback(link.close, 5)
            return link

        yield make


def dispatch(settings: Settings, *messages: AnyDispatchMessage | bytes) -> None:
    send(settings, names.dispatch(POOL), *(one if isinstance(one, bytes) else one.to_json() for one in messages))


def arrived(link: Link, count: int) -> list[AnyDispatchMessage]:
    found: list[AnyDispatchMessage] = []
    wait_for(lambda: found.extend(link.poll(0.1)) or len(found) >= count, 30, f"{count} dispatches", interval=0)
    return found


def hello(incarnation: str = "i-1") -> Hello:
    return Hello(worker_id="worker-0", incarnation=incarnation, cell="cell-0", pool=POOL, at=time.time())


def said(settings: Settings, count: int) -> list[WorkerMessage]:
    reader = TopicReader(settings, names.WORKERS)
    try:
        return [worker_messages.validate_json(value or b"") for value in reader.wait_count(count)]
    finally:
        reader.close()


def test_leases_and_revocations_for_this_incarnation_arrive_in_order(new_link: NewLink, topics: Settings) -> None:
    link = new_link()
    assert link.connect(threading.Event())
    first, second = lease_of(render_task()), lease_of(render_task())
    revoke = Revoke(lease_id=first.lease_id, worker_id="worker-0", pool=POOL, request_ids=(first.tasks[0].request_id,))
    others = [lease_of(render_task(), worker_id="worker-9"), lease_of(render_task(), incarnation="i-0")]
    dispatch(topics, b"not json", first, *others, revoke, second)
    assert arrived(link, 3) == [first, revoke, second]


def test_messages_are_durable_and_in_order_once_they_are_said_to_be(new_link: NewLink, topics: Settings) -> None:
    link = new_link()
    assert link.connect(threading.Event())
    delivered: list[int] = []
    link.send(hello())
    for number in range(250):
        credit = Credit(worker_id="worker-0", incarnation="i-1", cell="cell-0", pool=POOL, at=time.time(), max_batch=number + 1)
        link.send(credit, lambda number=number: delivered.append(number))
    wait_for(lambda: link.poll(0.05) is not None and len(delivered) == 250, 30, "acknowledgements")
    assert delivered == list(range(250))
    messages = said(topics, 251)
    assert isinstance(messages[0], Hello)
    assert [message.max_batch for message in messages[1:] if isinstance(message, Credit)] == list(range(1, 251))
    assert link.close(5) == 0


def test_waiting_for_the_other_end_stops_when_told(new_link: NewLink) -> None:
    stop = threading.Event()
    stop.set()
    assert not new_link().connect(stop)


def test_a_gateway_that_restarts_loses_nothing(gateway: GatewayProcess, topics: Settings) -> None:
    link = EdgeLink(edge_client(gateway), cell=topics.cell, pool=POOL, worker_id="worker-0", incarnation="i-1")
    assert link.connect(threading.Event())
    before, during = lease_of(render_task()), lease_of(render_task())
    dispatch(topics, before)
    assert arrived(link, 1) == [before]
    gateway.stop(9)
    delivered = threading.Event()
    link.send(hello(), delivered.set)
    dispatch(topics, during)
    assert not delivered.is_set()
    gateway.start()
    assert arrived(link, 1) == [during]
    assert delivered.wait(30)
    assert [message.worker_id for message in said(topics, 1)] == ["worker-0"]
    link.close(5)


def test_a_new_connection_gets_the_leases_that_still_live(gateway: GatewayProcess, topics: Settings) -> None:
    """As after a line that broke before the answer came: what a cursor does not cover comes again, what is over does not."""
    link = EdgeLink(edge_client(gateway), cell=topics.cell, pool=POOL, worker_id="worker-0", incarnation="i-1")
    assert link.connect(threading.Event())
    expired = lease_of(render_task(), expires_at=time.time() - 1)
    revoked, alive = lease_of(render_task()), lease_of(render_task())
    dispatch(topics, expired, revoked, alive, Revoke(lease_id=revoked.lease_id, worker_id="worker-0", pool=POOL))
    wait_for(lambda: alive in arrived(link, 1), 30, "the lease")
    link.close(5)
    again = EdgeLink(edge_client(gateway), cell=topics.cell, pool=POOL, worker_id="worker-0", incarnation="i-1")
    assert again.connect(threading.Event())
    assert [message for message in arrived(again, 2) if isinstance(message, Lease)] == [alive]
    again.close(5)
