"""The gateway process on a real broker and a real store; the router's events are written by the test."""

from __future__ import annotations

import hashlib
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from include.client.producer import TopicProducer
from include.client.reader import Start, TopicReader
from include.config import Settings
from include.contracts import topics as names
from include.contracts.control import Cancel, ControlMessage, ModelDefaults, ModelRoute, Scenario
from include.contracts.dispatch import ModelRef
from include.contracts.events import ImageResult, Lane, State, StatusEvent, event_id
from include.contracts.objects import image_key
from include.contracts.requests import MAX_MESSAGE_BYTES, GenerationRequest, ImageFormat, Tier
from include.platform.ports import free_ports
from include.storage import open_store
from tests.integration.gateway.conftest import GatewayProcess, sse_events
from tests.support.waiting import wait_for

DATA = b"\x89PNG these are the bytes"


def new_id() -> str:
    return f"r-{uuid.uuid4().hex[:12]}"


def event(request_id: str, state: State, tenant: str = "acme", **fields: Any) -> StatusEvent:
    return StatusEvent(event_id=event_id(request_id, state, 0), request_id=request_id, tenant=tenant, state=state, at=time.time(), **fields)


def say(producer: TopicProducer, *events: StatusEvent) -> None:
    for one in events:
        producer.put(names.EVENTS, one.to_json(), one.request_id)


def wait_state(client: httpx.Client, request_id: str, state: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        reply = client.get(f"/v1/requests/{request_id}")
        return reply.json() if reply.is_success and reply.json()["state"] == state else None

    found = wait_for(reached, 20, f"{request_id} {state}")
    assert found is not None
    return found


def completed(settings: Settings, request_id: str, data: bytes = DATA) -> StatusEvent:
    key = image_key("acme", request_id, 0, ImageFormat.PNG)
    stored = open_store(settings).put_if_absent(key, data, "image/png")
    image = ImageResult(index=0, key=key, sha256=stored.sha256, size_bytes=len(data), width=64, height=64, seed=1, media_type="image/png")
    return event(request_id, State.COMPLETED, images=(image,), model="emoji", model_version="1", trace={"shared_with": ["globex-7"]})


def find_request(settings: Settings, topic: str, request_id: str) -> GenerationRequest:
    with TopicReader(settings, topic, Start.BEGINNING) as reader:
        while (record := reader.poll(10)) is not None:
            request = GenerationRequest.from_json(record.value or b"")
            if request.request_id == request_id:
                return request
    raise AssertionError(f"{request_id} is not on {topic}")


def test_a_request_is_durable_and_carries_the_callers_tenant_and_tier(acme: httpx.Client, gateway_settings: Settings) -> None:
    reply = acme.post("/v1/images", json={"prompt": "red apple", "steps": 4})
    assert reply.status_code == 202, reply.text
    request_id = reply.json()["request_id"]
    assert reply.json()["status_url"] == f"/v1/requests/{request_id}"
    request = find_request(gateway_settings, names.REALTIME, request_id)
    assert (request.tenant, request.tier, request.prompt, request.steps) == ("acme", Tier.ENTERPRISE, "red apple", 4)
    assert acme.get(reply.json()["status_url"]).json()["state"] == "Accepted"


def test_a_batch_request_goes_to_the_batch_topic(acme: httpx.Client, gateway_settings: Settings) -> None:
    request_id = acme.post("/v1/images", params={"service_class": "batch"}, json={"prompt": "red apple"}).json()["request_id"]
    assert find_request(gateway_settings, names.BATCH, request_id).request_id == request_id


def test_the_same_request_twice_is_sent_once(acme: httpx.Client, globex: httpx.Client, gateway_settings: Settings) -> None:
    request_id = new_id()
    body = {"prompt": "red apple", "request_id": request_id}
    assert [acme.post("/v1/images", json=body).status_code for _ in range(3)] == [202, 202, 202]
    with TopicReader(gateway_settings, names.REALTIME, Start.BEGINNING) as reader:
        sent = [record.value for record in iter(lambda: reader.poll(2), None) if record is not None]
    assert sum(request_id.encode() in (value or b"") for value in sent) == 1

    different = acme.post("/v1/images", json={**body, "prompt": "blue car"})
    assert (different.status_code, different.json()["error"]["code"]) == (409, "duplicate_id")
    taken = globex.post("/v1/images", json=body)
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "id_taken")
    assert "acme" not in taken.text


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"Authorization": "Bearer nonsense"}, 401), ({"Authorization": "Basic YTpi"}, 401)]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/images"), ("GET", "/v1/requests/x"), ("GET", "/v1/models")])
def test_without_a_known_key_nothing_is_answered(
    gateway: GatewayProcess, headers: dict[str, str], status: int, method: str, path: str
) -> None:
    reply = httpx.request(method, gateway.settings.gateway + path, headers=headers, content=b"{}" if method == "POST" else None)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, "unauthorized")


def test_errors_have_one_envelope(acme: httpx.Client) -> None:
    replies = {
        "invalid_field": acme.post("/v1/images", json={"prompt": "a", "steps": -1}),
        "too_large": acme.post("/v1/images", content=b" " * (MAX_MESSAGE_BYTES + 1)),
        "not_found": acme.get("/v1/requests/nobody"),
        "bad_request": acme.put("/v1/images"),
    }
    assert {code: reply.json()["error"]["code"] for code, reply in replies.items()} == {code: code for code in replies}
    assert [reply.status_code for reply in replies.values()] == [422, 413, 404, 405]
    assert replies["invalid_field"].json()["error"]["field"] == "steps"
    assert acme.post("/v1/images", params={"service_class": "soon"}, json={"prompt": "a"}).json()["error"]["field"] == "service_class"


def test_a_large_body_without_a_length_is_refused_too(acme: httpx.Client) -> None:
    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 8192

    assert acme.post("/v1/images", content=chunks()).status_code == 413


def test_a_finished_request_has_images_for_its_tenant_only(
    acme: httpx.Client, globex: httpx.Client, producer: TopicProducer, gateway_settings: Settings
) -> None:
    request_id = acme.post("/v1/images", json={"prompt": "red apple"}).json()["request_id"]
    say(producer, event(request_id, State.QUEUED, lane=Lane.HIGH, position=1))
    assert wait_state(acme, request_id, "Queued")["position"] == 1
    early = acme.get(f"/v1/requests/{request_id}/images/0")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_ready")

    say(producer, completed(gateway_settings, request_id))
    image = wait_state(acme, request_id, "Completed")["images"][0]
    reply = acme.get(image["url"])
    assert (reply.content, reply.headers["content-type"]) == (DATA, "image/png")
    assert reply.headers["etag"].strip('"') == hashlib.sha256(DATA).hexdigest()
    assert acme.get(f"/v1/requests/{request_id}/images/1").status_code == 404
    for path in ("", "/images/0", "/events"):
        assert globex.get(f"/v1/requests/{request_id}{path}").status_code == 404
    assert globex.delete(f"/v1/requests/{request_id}").status_code == 404
    assert request_id in [found["request_id"] for found in acme.get("/v1/requests").json()]
    assert request_id not in globex.get("/v1/requests").text


def test_an_image_that_is_gone_from_the_store_is_not_found(acme: httpx.Client, producer: TopicProducer, gateway_settings: Settings) -> None:
    request_id = new_id()
    done = completed(gateway_settings, request_id)
    say(producer, done)
    wait_state(acme, request_id, "Completed")
    open_store(gateway_settings).delete(done.images[0].key)
    assert acme.get(f"/v1/requests/{request_id}/images/0").status_code == 404


def test_the_event_stream_replays_follows_and_ends(acme: httpx.Client, producer: TopicProducer, gateway_settings: Settings) -> None:
    request_id = new_id()
    say(producer, event(request_id, State.QUEUED))
    wait_state(acme, request_id, "Queued")
    with acme.stream("GET", f"/v1/requests/{request_id}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        found = sse_events(reply.iter_lines())
        first, queued = next(found)
        assert queued["state"] == "Queued"
        say(producer, event(request_id, State.PROCESSING), completed(gateway_settings, request_id))
        rest = list(found)
    assert [data["state"] for _, data in rest] == ["Processing", "Completed"]
    assert rest[-1][1]["images"][0]["url"] == f"/v1/requests/{request_id}/images/0"  # type: ignore[index]
    assert "globex-7" not in str(rest)
    with acme.stream("GET", f"/v1/requests/{request_id}/events", headers={"Last-Event-ID": str(first)}) as reply:
        assert [data["state"] for _, data in sse_events(reply.iter_lines())] == ["Processing", "Completed"]


def test_a_cancellation_reaches_the_control_topic(acme: httpx.Client, producer: TopicProducer, gateway_settings: Settings) -> None:
    request_id = acme.post("/v1/images", json={"prompt": "red apple"}).json()["request_id"]
    with TopicReader(gateway_settings, names.CONTROL) as reader:
        assert acme.delete(f"/v1/requests/{request_id}").status_code == 202
        record = reader.poll(10)
    assert record is not None and record.value is not None
    cancel = Cancel.from_json(record.value)
    assert (cancel.request_id, cancel.tenant) == (request_id, "acme")
    say(producer, event(request_id, State.CANCELLED))
    wait_state(acme, request_id, "Cancelled")
    assert acme.delete(f"/v1/requests/{request_id}").status_code == 409


def test_models_and_scenarios_are_what_the_control_topic_says(acme: httpx.Client, producer: TopicProducer) -> None:
    def route(name: str, version: str | None) -> ModelRoute:
        champion = ModelRef(name=name, version=version, digest="0" * 64, source="mlflow-artifacts:/x") if version else None
        defaults = ModelDefaults(width=64, height=64, steps=8, guidance=3.0)
        return ModelRoute(at=1.0, name=name, champion=champion, defaults=defaults, is_default=True)

    scenario = Scenario(at=1.0, name="sticker", model="emoji", steps=12)
    messages: list[ControlMessage] = [route("emoji", "1"), route("gone", "1"), scenario, route("emoji", "2"), route("gone", None)]
    producer.put(names.CONTROL, b"nonsense", "nonsense")
    for message in messages:
        producer.put(names.CONTROL, message.model_dump_json().encode(), message.key)

    def settled() -> dict[str, Any] | None:
        found = acme.get("/v1/models").json()
        return found if [(model["name"], model["version"]) for model in found["models"]] == [("emoji", "2")] else None

    found = wait_for(settled, 20, "the routes are known")
    assert found is not None
    assert found["models"][0]["defaults"]["steps"] == 8
    assert found["scenarios"] == [{"name": "sticker", "model": "emoji", "steps": 12}]


def test_the_pages_and_checks_are_there(gateway: GatewayProcess) -> None:
    base = gateway.settings.gateway
    health = wait_for(lambda: found if (found := httpx.get(f"{base}/healthz").json())["events"]["reading"] else None, 20, "reading")
    assert (health["status"], health["kafka"]) == ("ok", "reachable")  # type: ignore[index]
    assert httpx.get(f"{base}/readyz").status_code == 200
    assert "/docs" in httpx.get(base).text
    paths = httpx.get(f"{base}/openapi.json").json()["paths"]
    body = paths["/v1/images"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "prompt" in body["properties"]


def test_without_kafka_the_gateway_says_so_and_lives(start_gateway: Callable[..., GatewayProcess]) -> None:
    process = start_gateway(kafka_bootstrap=f"127.0.0.1:{free_ports(1)[0]}")
    with process.client() as client:
        reply = client.post("/v1/images", json={"prompt": "red apple"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/healthz").json()["status"] == "degraded"
        assert client.get("/readyz").status_code == 503
        assert client.get("/v1/models").json() == {"models": [], "scenarios": []}
    assert process.stop() == -signal.SIGTERM  # the server ends in order, then by the signal it was sent


def test_a_restart_goes_on_where_it_was(start_gateway: Callable[..., GatewayProcess], topics: Settings) -> None:
    request_id = new_id()
    with TopicProducer(topics) as producer:
        process = start_gateway(topics)
        say(producer, event(request_id, State.QUEUED))
        with process.client() as client:
            wait_state(client, request_id, "Queued")
        process.stop(9)
        say(producer, event(request_id, State.QUEUED), event(request_id, State.COMPLETED))
        process.start()
        with process.client() as client:
            wait_state(client, request_id, "Completed")
            with client.stream("GET", f"/v1/requests/{request_id}/events") as reply:
                assert [data["state"] for _, data in sse_events(reply.iter_lines())] == ["Queued", "Completed"]


def test_an_open_stream_does_not_hold_the_shutdown(start_gateway: Callable[..., GatewayProcess], topics: Settings) -> None:
    process, request_id = start_gateway(topics), new_id()
    with TopicProducer(topics) as producer, process.client() as client:
        say(producer, event(request_id, State.QUEUED))
        wait_state(client, request_id, "Queued")
        with client.stream("GET", f"/v1/requests/{request_id}/events") as reply:
            found = sse_events(reply.iter_lines())
            next(found)
            started = time.monotonic()
            assert process.stop() == -signal.SIGTERM  # the server ends in order, then by the signal it was sent
            assert list(found) == []
        assert time.monotonic() - started < 4
