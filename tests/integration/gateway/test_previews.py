"""A running request's preview through the real gateway, and the demo's watch over it; the worker's part is played by the test."""

from __future__ import annotations

import io

import httpx
import pytest
from PIL import Image

from include.client.producer import TopicProducer
from include.config import Settings
from include.contracts.events import Progress, State, StatusEvent, event_id
from include.contracts.objects import preview_key
from include.contracts.requests import ServiceClass, Tier
from include.demo.good_requests import good_request
from include.demo.observer import Observer
from include.demo.planned import Way
from include.demo.previews import PreviewWatch
from include.demo.sending import Sender
from include.storage import ObjectStore, open_store
from tests.integration.gateway.conftest import GatewayProcess
from tests.integration.gateway.test_gateway import event, new_id, say, wait_state
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def store(gateway_settings: Settings) -> ObjectStore:
    return open_store(gateway_settings)


def jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def progress(request_id: str, step: int) -> StatusEvent:
    said = event(request_id, State.PROCESSING, progress=Progress(step=step, steps=100, previews=(preview_key("acme", request_id),)))
    return said.model_copy(update={"event_id": event_id(request_id, State.PROCESSING, 1, step)})


def test_the_newest_preview_is_its_tenants_while_the_request_runs(
    acme: httpx.Client, globex: httpx.Client, producer: TopicProducer, store: ObjectStore
) -> None:
    accepted = acme.post("/v1/images", json={"prompt": "red apple"}).json()
    request_id, url = accepted["request_id"], accepted["preview_url"]
    assert acme.get(url).json()["error"]["code"] == "not_found"
    for colour in ("grey", "red"):
        store.put(preview_key("acme", request_id), jpeg(colour), "image/jpeg")
        found = acme.get(url)
        assert (found.content, found.headers["content-type"], found.headers["cache-control"]) == (jpeg(colour), "image/jpeg", "no-store")
    assert globex.get(url).status_code == 404
    say(producer, event(request_id, State.CANCELLED))
    wait_state(acme, request_id, "Cancelled")
    assert acme.get(url).status_code == 404


def test_the_watch_keeps_each_preview_that_it_was_told_of(gateway: GatewayProcess, producer: TopicProducer, store: ObjectStore) -> None:
    planned = good_request(new_id(), "acme", Tier.ENTERPRISE, Way.GATEWAY, ServiceClass.REALTIME, "owl", {"steps": 100})
    request_id = planned.request_id or ""
    with Observer(gateway.settings) as observer, Sender(gateway.settings) as sender, PreviewWatch(observer, sender, planned) as watch:
        sender.send(planned)
        for count, (step, colour) in enumerate(((20, "grey"), (40, "red"), (60, "blue")), 1):
            store.put(preview_key("acme", request_id), jpeg(colour), "image/jpeg")
            say(producer, progress(request_id, step))
            wait_for(lambda count=count: len(watch.frames) == count, 20, f"frame {count}")
        say(producer, progress(request_id, 80))  # nothing new was written
        say(producer, event(request_id, State.COMPLETED))
        watch.join(20)
        assert not watch.is_alive()
    assert [(frame.step, frame.steps, frame.data) for frame in watch.frames] == [
        (20, 100, jpeg("grey")), (40, 100, jpeg("red")), (60, 100, jpeg("blue"))
    ]  # fmt: skip
    assert len({frame.name for frame in watch.frames}) == 3
