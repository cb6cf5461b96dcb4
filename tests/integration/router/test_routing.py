"""Requests of both topics come back as events and leases, bad ones as dead letters with their bytes, and the job never restarts.

One submission serves the tests of this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from include.config import Settings
from include.contracts import topics as names
from include.contracts.dead_letters import DeadLetter
from tests.integration.router.conftest import RouterJob, isolated_topics, request, routing
from tests.integration.router.stub_worker import StubWorker, hold
from tests.support.flink_cluster import FlinkCluster
from tests.support.kafka_client import send
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def router(flink_session: FlinkCluster, kafka: str, service_settings: Settings) -> Iterator[RouterJob]:
    with isolated_topics(service_settings, kafka) as settings, routing(flink_session, settings.model_copy(update={"lease_s": 4.0})) as job:
        yield job
        flink_session.cancel(job.job_id)


@pytest.fixture(autouse=True)
def never_restarted(router: RouterJob) -> Iterator[None]:
    yield
    assert router.restarts() == 0


def test_forty_requests_of_both_topics_complete(router: RouterJob) -> None:
    with StubWorker(router.settings, "worker-0", max_batch=4) as worker:
        realtime = router.send(names.REALTIME, *(request(tenant=f"t{index % 3}", tier="pro") for index in range(20)))
        batch = router.send(names.BATCH, *(request(tenant=f"t{index % 3}", prompt="Bär 🐻") for index in range(20)))
        router.wait_completed(realtime + batch)
    first, second = router.history()[realtime[0]], router.history()[batch[0]]
    assert [event["state"] for event in first] == ["Queued", "Processing", "Completed"]
    assert (first[0]["lane"], second[0]["lane"]) == ("high", "low")
    assert {task["prompt"] for lease in worker.leases for task in lease["tasks"]} == {"a red heart", "Bär 🐻"}
    assert not router.letters()


def bad_values() -> dict[str, tuple[bytes | None, str, str | None]]:
    """What is wrong → bytes, reason, field."""

    def changed(**fields: Any) -> bytes:
        return json.dumps(request(**fields)).encode()

    return {
        "not JSON": (b"please, a red heart", "invalid_message", None),
        "no fields": (b"{}", "invalid_field", "request_id"),
        "unknown model": (changed(model="nobody"), "unknown_model", "model"),
        "unknown scenario": (changed(scenario="nowhere"), "unknown_scenario", "scenario"),
        "size 0": (changed(width=0, height=32), "invalid_field", "width"),
        "size 7": (changed(width=7, height=32), "invalid_field", "width"),
        "size 10^9": (changed(width=10**9, height=32), "invalid_field", "width"),
        "a size that the model does not do": (changed(width=128, height=128), "unsupported_shape", "width"),
        "steps -1": (changed(steps=-1), "invalid_field", "steps"),
        "NaN guidance": (changed(guidance=float("nan")), "invalid_field", "guidance"),
        "1 MB prompt": (changed(prompt="large " * 180_000), "invalid_field", "prompt"),
        "control characters": (changed(prompt="red\x00heart\x07"), "invalid_field", "prompt"),
        "unknown schema version": (changed(schema_version=99), "unsupported_schema", "schema_version"),
        "an unknown field of a long name": (changed(**{"x" * 1000: 1}), "invalid_field", "x" * 200),
        "null value": (None, "invalid_message", None),
        "empty value": (b"", "invalid_message", None),
        "invalid UTF-8": (b'{"prompt": "\xff\xfe\xc3\x28"}', "invalid_message", None),
        "every byte": (bytes(range(256)), "invalid_message", None),
    }


def test_bad_input_becomes_dead_letters_with_its_bytes(router: RouterJob) -> None:
    known = len(router.letters())
    first = request("mine", tenant="acme")
    twice = json.dumps(first).encode()
    stolen = json.dumps(first | {"tenant": "globex"}).encode()
    bad = bad_values()
    send(router.settings, names.REALTIME, twice, key="mine")
    router.wait_state(["mine"], "Queued")
    send(router.settings, names.REALTIME, *(value for value, _, _ in bad.values()), twice, stolen)
    send(router.settings, names.BATCH, None, b"\xff")
    wanted = [
        *((value, code, field, names.REALTIME) for value, code, field in bad.values()),
        (twice, "duplicate_id", "request_id", names.REALTIME),
        (stolen, "id_taken", "request_id", names.REALTIME),
        (None, "invalid_message", None, names.BATCH),
        (b"\xff", "invalid_message", None, names.BATCH),
    ]
    wait_for(lambda: len(router.letters()) >= known + len(wanted), 30, f"{len(wanted)} dead letters", interval=0)
    letters = [DeadLetter.from_json(json.dumps(letter)) for letter in router.letters()[known:]]
    got = [(letter.original_bytes(), letter.reason.code.value, letter.reason.field, letter.source_topic) for letter in letters]
    assert sorted(got, key=str) == sorted(wanted, key=str)
    for name in (json.loads(value)["request_id"] for value, _, field in bad.values() if value and field not in (None, "request_id")):
        assert [event["state"] for event in router.history()[name]] == ["Refused"]
    assert "Refused" not in [event["state"] for event in router.history()["mine"]]


def test_bad_workers_and_control_messages_leave_what_held(router: RouterJob) -> None:
    known = len(router.letters())
    send(router.settings, names.WORKERS, b"?", None, b'{"kind": "hello", "worker_id": "w"}')
    send(router.settings, names.CONTROL, b"\xff", b'{"kind": "policy", "at": 1, "lanes": []}', key="policy")
    send(router.settings, names.CONTROL, None, key="policy")
    wait_for(lambda: len(router.letters()) >= known + 5, 30, "5 dead letters", interval=0)
    assert sorted(letter["source_topic"] for letter in router.letters()[known:]) == ["control"] * 2 + ["workers"] * 3
    with StubWorker(router.settings, "worker-1"):
        router.wait_completed(router.send(names.REALTIME, request()))


def test_a_worker_that_falls_silent_loses_its_requests_to_another(router: RouterJob) -> None:
    with StubWorker(router.settings, "worker-2", slots=2, answer=hold) as silent:
        ids = router.send(names.REALTIME, request(), request())
        router.wait_state(ids, "Processing")
        silent.vanish()
    with StubWorker(router.settings, "worker-3"):
        router.wait_completed(ids)
    for name in ids:
        retried = next(event for event in router.history()[name] if event["state"] == "Retrying")
        assert retried["reason"]["code"] in ("lease_expired", "worker_lost")
        assert router.terminal(name)[0]["worker_id"] == "worker-3"


def test_a_queued_request_is_cancelled_by_a_control_message(router: RouterJob) -> None:
    (name,) = router.send(names.REALTIME, request())
    router.wait_state([name], "Queued")
    cancel = {"kind": "cancel", "request_id": name, "tenant": "acme", "at": 1.0}
    send(router.settings, names.CONTROL, json.dumps(cancel), key=f"cancel:{name}")
    router.wait_state([name], "Cancelled")


def test_levels_and_counts_are_flink_metrics(router: RouterJob) -> None:
    def values() -> dict[str, float]:
        return router.metrics("lane.high.depth", "lane.high.dispatched", "outcome.Completed.count", "dead_letters", "live_workers")

    wait_for(lambda: values().get("outcome.Completed.count", 0) >= 40, 30, "metrics of the scheduler")
    assert values()["lane.high.dispatched"] >= 20
    assert values()["dead_letters"] >= 20
