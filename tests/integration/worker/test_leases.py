"""Lease in, image out: a worker process against real Kafka, MLflow and store."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import time

import pytest
from PIL import Image

from include.contracts import topics as names
from include.contracts.control import ModelRoute
from include.contracts.dispatch import ModelRef, Revoke
from include.contracts.errors import ReasonCode
from include.contracts.objects import parked_key, preview_key
from include.contracts.requests import ImageFormat
from include.contracts.workers import Completed, Credit, Failed, Goodbye, Hello, RenderProgress, Started
from include.storage import ObjectStore
from include.worker.encoding import read_parameters
from include.worker.health import health_path
from tests.integration.worker.conftest import Router, Workers
from tests.support.device import DEVICE
from tests.support.kafka_client import send
from tests.support.leases import lease_of, render_task
from tests.support.registry import DEFAULTS
from tests.support.waiting import wait_for

LONG = {"steps": 200, "images": 16, "width": 32, "height": 32}  #: a render of some seconds


def test_a_batch_of_all_formats_is_rendered_stored_and_reported(
    workers: Workers, router: Router, model: ModelRef, store: ObjectStore
) -> None:
    workers.start()
    hello = router.hello()
    assert (hello.device, hello.slots, hello.pool) == (DEVICE, 2, "standard")
    tasks = [render_task(image_format=image_format, images=2) for image_format in ImageFormat]
    lease = router.lease(hello, *tasks, model=model)
    outcomes = router.outcomes(lease)
    assert all(isinstance(outcome, Completed) and not outcome.cached for outcome in outcomes)
    assert router.wait(Started, lease_id=lease.lease_id)
    for outcome in outcomes:
        assert isinstance(outcome, Completed)
        assert outcome.model_version == model.version
        assert outcome.usage.steps == 4 and outcome.usage.gpu_seconds > 0
        for image in outcome.images:
            data = store.get(image.key)
            assert hashlib.sha256(data).hexdigest() == image.sha256 and len(data) == image.size_bytes
            assert Image.open(io.BytesIO(data)).size == (16, 16)
            parameters = read_parameters(data) or {}
            assert (parameters["seed"], parameters["model_digest"]) == (image.seed, model.digest)
    credit = router.wait_free("worker-0")
    assert credit.warm_models == (model.key,) and credit.free_memory_mb


def test_a_lease_said_twice_is_rendered_once(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    lease = router.lease(router.hello(), render_task(), model=model)
    first = router.outcomes(lease)
    router.wait_free("worker-0")
    router.dispatch(lease)
    again = router.wait(Completed, 2, lease_id=lease.lease_id)
    assert again[1] == first[0]
    assert len(router.messages(Started)) == 1


def test_leases_for_others_and_broken_messages_are_left_alone(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    hello = router.hello()
    router.dispatch(b"not json")
    router.dispatch(b'{"kind": "lease"}')
    stale = router.lease(hello.model_copy(update={"incarnation": "earlier"}), render_task(), model=model)
    other = router.lease(hello.model_copy(update={"worker_id": "worker-9"}), render_task(), model=model)
    router.outcomes(router.lease(hello, render_task(), model=model))
    answered = {message.lease_id for message in [*router.messages(Completed), *router.messages(Failed)]}
    assert answered.isdisjoint({stale.lease_id, other.lease_id})


@pytest.mark.parametrize(
    ("task", "field"), [({"images": 10**9}, "images"), ({"guidance": float("nan")}, "guidance"), ({"steps": -1}, "steps")]
)
def test_a_lease_that_can_not_be_read_is_answered_with_the_field_at_once(
    workers: Workers, router: Router, model: ModelRef, task: dict[str, float], field: str
) -> None:
    worker, good = workers.start(), render_task()
    hello = router.hello()
    content = json.loads(lease_of(render_task(), model=model, worker_id=hello.worker_id, incarnation=hello.incarnation).to_json())
    content["tasks"][0].update(task)
    router.dispatch(json.dumps(content).encode())
    (failed,) = router.wait(Failed, lease_id=content["lease_id"])
    assert (failed.request_id, failed.retryable, failed.reason.code) == (None, True, ReasonCode.INVALID_FIELD)
    assert f"lease.tasks.0.{field}" in failed.reason.message
    (done,) = router.outcomes(router.lease(hello, good, model=model))
    assert isinstance(done, Completed) and worker.thread.is_alive()


def test_a_revoked_request_stops_within_a_step_and_its_mate_completes(
    workers: Workers, router: Router, model: ModelRef, store: ObjectStore
) -> None:
    workers.start()
    cancelled, kept = render_task(steps=200), render_task(steps=200)
    lease = router.lease(router.hello(), cancelled, kept, model=model)
    router.wait(Started, lease_id=lease.lease_id)
    router.dispatch(Revoke(lease_id=lease.lease_id, worker_id="worker-0", pool="standard", request_ids=(cancelled.request_id,)))
    router.wait(Completed, request_id=kept.request_id)
    router.wait_free("worker-0")
    assert [message.request_id for message in router.messages(Completed)] == [kept.request_id]
    assert router.messages(Failed) == []
    assert list(store.list(f"images/acme/{cancelled.request_id}/")) == []


def test_a_revoked_lease_frees_its_slot_at_once(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    hello = router.hello()
    running, waiting = (router.lease(hello, render_task(**LONG), model=model) for _ in range(2))
    router.wait(RenderProgress, lease_id=running.lease_id)
    for lease in (waiting, running):
        router.dispatch(Revoke(lease_id=lease.lease_id, worker_id="worker-0", pool="standard"))
    router.wait_free("worker-0", timeout=5)
    assert router.messages(Completed) == []


def test_heartbeats_and_progress_go_on_while_it_renders(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    lease = router.lease(router.hello(), render_task(**LONG), model=model)
    router.wait(Started, lease_id=lease.lease_id)
    before = len(router.messages(Credit))
    router.outcomes(lease)
    held = [credit for credit in router.messages(Credit)[before:] if credit.held == (lease.lease_id,)]
    assert len(held) >= 2 and any((credit.utilisation or 0) > 0.5 for credit in held)
    assert router.messages(RenderProgress)


def test_a_killed_worker_comes_back_as_another_incarnation(workers: Workers, router: Router, model: ModelRef, store: ObjectStore) -> None:
    first = workers.start_process()
    hello = router.hello()
    task = render_task(steps=200, images=16)
    lease = router.lease(hello, task, model=model)
    router.wait(RenderProgress, lease_id=lease.lease_id)
    first.signal(signal.SIGKILL)
    first.process.wait(30)
    workers.start()
    again = router.hello(starts=2)
    assert again.incarnation != hello.incarnation
    retry = router.lease(again, task, model=model, attempt=2)
    (outcome,) = router.outcomes(retry)
    assert isinstance(outcome, Completed) and len(outcome.images) == 16
    assert len(list(store.list(f"images/acme/{task.request_id}/"))) == 16
    assert not any(message.lease_id == lease.lease_id for message in router.messages(Completed))


def test_a_retry_of_what_is_stored_already_is_answered_without_rendering(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    hello = router.hello()
    task = render_task(images=3)
    (first,) = router.outcomes(router.lease(hello, task, model=model))
    (second,) = router.outcomes(router.lease(hello, task, model=model, attempt=2))
    assert isinstance(first, Completed) and isinstance(second, Completed)
    assert second.cached and second.images == first.images
    assert second.usage.gpu_seconds == 0


def test_a_lease_that_nothing_renews_is_left(workers: Workers, router: Router, model: ModelRef) -> None:
    """Stopped for longer than its lease, the worker must not go on with what is somebody else's by then."""
    worker = workers.start_process()
    hello = router.hello()
    router.outcomes(router.lease(hello, render_task(), model=model))
    lease = router.lease(hello, render_task(**LONG), model=model, lease_s=2.0)
    router.wait(RenderProgress, lease_id=lease.lease_id)
    worker.signal(signal.SIGSTOP)
    wait_for(lambda: lease.expires_at + 2.5 < max(message.at for message in _clock(router)), 20, "the lease expired")
    worker.signal(signal.SIGCONT)
    (outcome,) = router.outcomes(lease)
    assert isinstance(outcome, Failed) and outcome.reason.code == ReasonCode.LEASE_EXPIRED and outcome.retryable


def _clock(router: Router) -> list[Goodbye]:
    """Sends a message of another worker to the topic and reads it back; its time is now."""
    send(
        router.settings,
        names.WORKERS,
        Goodbye(worker_id="clock", incarnation="i", cell="cell-0", pool="standard", at=time.time()).to_json(),
    )
    return router.wait(Goodbye, worker_id="clock")


def test_sigterm_finishes_the_running_batch_and_hands_back_the_waiting_one(workers: Workers, router: Router, model: ModelRef) -> None:
    worker = workers.start_process("worker-0", "--drain-s", "90")
    hello = router.hello()
    running, waiting = (router.lease(hello, render_task(**LONG), model=model) for _ in range(2))
    router.wait(RenderProgress, lease_id=running.lease_id)
    worker.signal(signal.SIGTERM)
    (goodbye,) = router.wait(Goodbye)
    assert goodbye.handed_back == (waiting.lease_id,)
    assert [message.lease_id for message in router.messages(Completed)] == [running.lease_id]
    assert worker.process.wait(20) == 0
    assert not health_path(router.settings.home, "worker-0").exists()


def test_a_worker_that_must_end_now_hands_back_the_running_batch_too(workers: Workers, router: Router, model: ModelRef) -> None:
    worker = workers.start(drain_s=0.2)
    lease = router.lease(router.hello(), render_task(**LONG), model=model)
    router.wait(RenderProgress, lease_id=lease.lease_id)
    worker.stop.set()
    (goodbye,) = router.wait(Goodbye)
    assert goodbye.handed_back == (lease.lease_id,)
    assert router.messages(Completed) == [] and router.messages(Failed) == []


def test_what_a_drained_worker_had_begun_goes_on_elsewhere_to_the_same_image(
    workers: Workers, router: Router, model: ModelRef, store: ObjectStore
) -> None:
    workers.settings = workers.settings.model_copy(update={"result_cache_s": 0.0})  # the comparison is with a render of its own
    task = render_task(**{**LONG, "images": 8})
    first = workers.start("worker-a", drain_s=0.0)
    router.lease(router.hello("worker-a"), task, model=model)
    wait_for(lambda: any(message.progress.step > 0 for message in router.messages(RenderProgress)), 60, "a step done")
    first.stop.set()
    router.wait(Goodbye, worker_id="worker-a")
    assert list(store.list("parked/")) == [parked_key(task.tenant, task.request_id)]
    workers.start("worker-b")
    second = router.hello("worker-b")
    (resumed,) = router.outcomes(router.lease(second, task, model=model, attempt=2))
    assert isinstance(resumed, Completed) and "parked" in resumed.usage.cache_hits
    assert 0 < resumed.usage.steps < LONG["steps"] and list(store.list("parked/")) == []
    anew = task.model_copy(update={"request_id": "anew"})
    (whole,) = router.outcomes(router.lease(second, anew, model=model))
    assert isinstance(whole, Completed)
    assert [image.sha256 for image in whole.images] == [image.sha256 for image in resumed.images]


def test_a_short_lease_goes_before_a_long_one_and_the_account_has_room_for_it(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    hello = router.hello()
    long = router.lease(hello, render_task(**LONG), model=model)
    router.wait(RenderProgress, lease_id=long.lease_id)
    short = router.lease(hello, render_task(), model=model)
    router.outcomes(short)
    assert router.messages(Completed)[0].lease_id == short.lease_id
    parked = router.wait(Credit, parked=1)[0]
    assert parked.slots == 3 and set(parked.held) == {long.lease_id, short.lease_id}
    router.outcomes(long)
    assert router.wait_free("worker-0").slots == 2


def test_running_requests_have_a_preview_until_they_end(workers: Workers, router: Router, model: ModelRef, store: ObjectStore) -> None:
    workers.start()
    task = render_task(**LONG)
    lease = router.lease(router.hello(), task, model=model)
    key = preview_key(task.tenant, task.request_id)
    wait_for(lambda: any(key in message.progress.previews for message in router.messages(RenderProgress)), 30, "a preview")
    router.outcomes(lease)
    wait_for(lambda: store.head(key) is None, 10, "the preview is gone")


def test_a_coming_champion_is_loaded_before_it_is_asked_for(workers: Workers, router: Router, model: ModelRef) -> None:
    workers.start()
    router.hello()
    route = ModelRoute(at=1.0, name=model.name, champion=model, defaults=DEFAULTS)
    send(router.settings, names.CONTROL, b"not a message", key="x")
    send(router.settings, names.CONTROL, route.to_json(), key=route.key)
    router.wait(Credit, warm_models=(model.key,))


def test_the_health_file_tells_the_last_heartbeat(workers: Workers, router: Router) -> None:
    workers.start()
    hello = router.hello()
    path = health_path(router.settings.home, "worker-0")
    health = wait_for(lambda: (found := json.loads(path.read_text()))["heartbeat_at"] and found, 20, "a heartbeat in the health file")
    assert (health["state"], health["incarnation"]) == ("serving", hello.incarnation)


@pytest.mark.parametrize("worker_ids", [("worker-a", "worker-b")])
def test_two_workers_share_a_pool(workers: Workers, router: Router, model: ModelRef, worker_ids: tuple[str, str]) -> None:
    for worker_id in worker_ids:
        workers.start(worker_id)
    hellos: list[Hello] = [router.hello(worker_id) for worker_id in worker_ids]
    leases = [router.lease(hello, render_task(), model=model) for hello in hellos]
    assert [router.outcomes(lease)[0].worker_id for lease in leases] == list(worker_ids)
