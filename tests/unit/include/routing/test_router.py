from __future__ import annotations

import json

import pytest

from include.contracts.dead_letters import DeadLetter
from include.contracts.requests import ServiceClass
from include.routing.router import Router
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from tests.unit.include.scheduling.harness import START, route

HELLO = {"kind": "hello", "worker_id": "w-0", "incarnation": "i", "cell": "cell-0", "pool": "standard", "at": START}


@pytest.fixture
def router() -> Router:
    scheduler = Scheduler(cell="cell-0", pools=frozenset({"standard"}), store=MemoryStore())
    router = Router(scheduler)
    list(router.control(route().to_json().decode(), START))
    return router


def test_everything_goes_to_its_topic_as_ascii_json(router: Router) -> None:
    request = json.dumps({"request_id": "r-1", "tenant": "acme", "prompt": "Bär 🐻"}, ensure_ascii=False).encode().decode("latin-1")
    assert [topic for topic, _ in router.request(request, ServiceClass.REALTIME, START)] == ["events"]
    sent = list(router.worker(json.dumps(HELLO), START))
    assert [topic for topic, _ in sent] == ["dispatch.standard", "events"]
    assert all(text.isascii() for _, text in sent)
    assert json.loads(sent[0][1])["tasks"][0]["prompt"] == "Bär 🐻"


def test_what_cannot_be_read_becomes_a_dead_letter_of_its_topic(router: Router) -> None:
    letters = [
        *router.request(None, ServiceClass.BATCH, START),
        *router.request("\xff", ServiceClass.REALTIME, START),
        *router.worker("?", START),
        *router.control("?", START),
    ]
    assert [topic for topic, _ in letters] == ["dead-letters"] * 4
    assert [json.loads(text)["source_topic"] for _, text in letters] == ["requests.batch", "requests.realtime", "workers", "control"]
    assert [DeadLetter.from_json(text).original_bytes() for _, text in letters] == [None, b"\xff", b"?", b"?"]


def test_what_the_scheduler_fails_on_is_set_aside_with_its_identity(router: Router) -> None:
    request = '{"request_id": "r-1", "tenant": "acme", "prompt": "x"}'
    sent = [*router.set_aside(request, "requests.batch", START), *router.set_aside("?", "workers", START)]
    assert [topic for topic, _ in sent] == ["events", "dead-letters", "dead-letters"]
    refused, letter, other = (json.loads(text) for _, text in sent)
    assert (refused["request_id"], refused["state"], refused["reason"]["code"]) == ("r-1", "Refused", "scheduler_failed")
    assert [(one["source_topic"], one.get("request_id")) for one in (letter, other)] == [("requests.batch", "r-1"), ("workers", None)]
    assert [topic for topic, _ in router.request(request, ServiceClass.REALTIME, START)] == ["events"]


def test_a_null_control_message_only_forgets_its_key(router: Router) -> None:
    assert list(router.control(None, START)) == []


def test_a_bad_policy_leaves_the_good_one(router: Router) -> None:
    list(router.control('{"kind": "policy", "at": 1, "lanes": []}', START))
    text = '{"request_id": "r-1", "tenant": "acme", "prompt": "x", "tier": "pro"}'
    ((_, event),) = router.request(text, ServiceClass.REALTIME, START)
    assert json.loads(event)["lane"] == "high"


def test_a_tick_brings_what_is_due(router: Router) -> None:
    text = json.dumps({"request_id": "r-1", "tenant": "acme", "prompt": "x", "deadline_at": START + 1})
    list(router.request(text, ServiceClass.REALTIME, START))
    ((topic, event),) = router.tick(START + 2)
    assert topic == "events" and json.loads(event)["state"] == "Expired"
