"""What an edge worker's credential opens at the gateway, and what it does not; leases come over real Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from include.config import Settings
from include.contracts import topics as names
from include.contracts.dispatch import Lease
from include.contracts.objects import image_key, preview_key
from include.contracts.workers import worker_messages
from include.gateway.edge.keys import EdgeCaller, create_edge_key
from include.gateway.edge.objects import MAX_OBJECT_BYTES
from include.storage import ObjectStore, open_store
from tests.integration.gateway.conftest import GatewayProcess
from tests.support.kafka_client import TopicReader, send
from tests.support.leases import lease_of, render_task
from tests.support.waiting import wait_for

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Attacker:
    """Calls the gateway as it likes, with a credential for ``worker-1``."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.settings = gateway.settings
        self.credential = create_edge_key(gateway.settings.home, EdgeCaller(workers="worker-1", pool="standard"))
        self.http = httpx.Client(base_url=f"{gateway.settings.gateway}/v1/edge/", timeout=30)

    def call(self, method: str, path: str, *, worker: str = "worker-1", credential: str | None = None, **content: Any) -> httpx.Response:
        known = {"Authorization": f"Bearer {credential or self.credential}", "X-Atelier-Worker": worker, "X-Atelier-Incarnation": "i-1"}
        return self.http.request(method, path, headers={**known, **content.pop("headers", {})}, **content)

    def status(self, method: str, path: str, **content: Any) -> int:
        return self.call(method, path, **content).status_code

    def put(self, key: str, data: bytes = PNG, *, once: bool = True, **content: Any) -> httpx.Response:
        return self.call("PUT", f"objects/{key}", content=data, headers={"If-None-Match": "*"} if once else {}, **content)


@pytest.fixture
def attacker(gateway: GatewayProcess) -> Iterator[Attacker]:
    found = Attacker(gateway)
    wait_for(lambda: found.status("GET", "session") == 200, 60, "the gateway's book of leases")
    yield found
    found.http.close()


@pytest.fixture
def store(gateway_settings: Settings) -> ObjectStore:
    return open_store(gateway_settings)


def held(attacker: Attacker, worker_id: str, **values: Any) -> Lease:
    """A lease of the worker that the gateway knows."""
    marker = lease_of(render_task(), worker_id="worker-1")
    lease = lease_of(render_task(), worker_id=worker_id, **values)
    send(attacker.settings, names.dispatch("standard"), lease.to_json(), marker.to_json())
    wait_for(lambda: marker.lease_id in attacker.call("GET", "dispatches").text, 30, "the marker")
    return lease


def keys(lease: Lease) -> tuple[str, str]:
    task = lease.tasks[0]
    return image_key(task.tenant, task.request_id, 0, task.image_format), preview_key(task.tenant, task.request_id)


def test_without_its_own_credential_nobody_gets_anywhere(attacker: Attacker, gateway: GatewayProcess) -> None:
    for path in ("session", "dispatches", "routes", "objects/images/acme/r/0.png", "models/" + "0" * 64 + "/files.json"):
        assert attacker.status("GET", path, credential="wrong") == 401
        assert attacker.status("GET", path, worker="worker-0") == 403
        assert attacker.http.get(path, headers={"X-Atelier-Worker": "worker-1", "X-Atelier-Incarnation": "i-1"}).status_code == 401
    with gateway.client() as tenant:  # a tenant's key opens this door no more than a worker's opens that one
        assert attacker.status("GET", "session", credential=tenant.headers["Authorization"].removeprefix("Bearer ")) == 401
        tenant.headers["Authorization"] = f"Bearer {attacker.credential}"
        assert tenant.get("/v1/models").status_code == 401


def test_objects_of_others_are_out_of_reach(attacker: Attacker, store: ObjectStore) -> None:
    image, preview = keys(held(attacker, "worker-0"))
    store.put_if_absent(image, PNG, "image/png")
    store.put(preview, b"\xff\xd8\xff", "image/jpeg")
    for key in (image, preview, "uploads/acme/x.png", "datasets/manifest.json"):
        assert attacker.status("GET", f"objects/{key}") == 403
        assert attacker.status("HEAD", f"objects/{key}") == 403
        assert attacker.put(key).status_code == 403
        assert attacker.status("DELETE", f"objects/{key}") == 403
    for key in ("../secret", "images/../../secret", "/etc/passwd", "%2e%2e/secret", "images//0.png"):
        assert attacker.put(key).status_code in (404, 405, 422)
        assert attacker.status("GET", f"objects/{key}") in (404, 405, 422)
    assert attacker.status("GET", f"models/{'f' * 64}/files.json") == 403


def test_own_objects_take_what_fits_them_only(attacker: Attacker, store: ObjectStore) -> None:
    image, preview = keys(held(attacker, "worker-1"))
    assert attacker.put(image, b"<script>alert(1)</script>").status_code == 422
    assert attacker.put(image, once=False).status_code == 403
    assert attacker.put(image, PNG + bytes(MAX_OBJECT_BYTES)).status_code == 413
    assert attacker.put(image).json()["created"] is True
    assert attacker.put(image, PNG + b"other").json()["created"] is False
    assert attacker.status("DELETE", f"objects/{image}") == 403
    assert store.get(image) == PNG
    assert attacker.put(preview, b"\xff\xd8\xff1", once=False).status_code == 200
    assert attacker.put(preview, b"\xff\xd8\xff2", once=False).status_code == 200
    assert attacker.call("GET", f"objects/{preview}").content == b"\xff\xd8\xff2"
    assert attacker.status("DELETE", f"objects/{preview}") == 204


def test_an_expired_lease_opens_nothing(attacker: Attacker) -> None:
    lease = held(attacker, "worker-1", expires_at=time.time() - 1)
    for key in keys(lease):
        assert attacker.put(key).status_code == 403
        assert attacker.status("GET", f"objects/{key}") == 403
    assert lease.lease_id not in attacker.call("GET", "dispatches").text


def test_messages_for_others_stay_where_they_are(attacker: Attacker) -> None:
    lease = held(attacker, "worker-0")
    plain = {"worker_id": "worker-1", "incarnation": "i-1", "cell": "cell-0", "pool": "standard", "at": 1.0}
    forged = [
        {**plain, "kind": "hello", "worker_id": "worker-0"},
        {**plain, "kind": "goodbye", "pool": "premium"},
        {**plain, "kind": "started", "lease_id": lease.lease_id},
        {"kind": "nonsense"},
        {**plain, "kind": "credit", "slots": 7},
    ]
    said = attacker.call("POST", "messages", json=forged).json()
    assert said["taken"] == 1 and [refusal["index"] for refusal in said["refused"]] == [0, 1, 2, 3]
    reader = TopicReader(attacker.settings, names.WORKERS)
    (credit,) = [worker_messages.validate_json(value or b"") for value in reader.wait_count(1)]
    reader.close()
    assert (credit.worker_id, credit.kind) == ("worker-1", "credit") and abs(credit.at - time.time()) < 300
    assert attacker.status("POST", "messages", content=b"[" + b" " * (2 << 20) + b"]") == 413
    assert attacker.status("POST", "messages", content=b"{}") == 422
