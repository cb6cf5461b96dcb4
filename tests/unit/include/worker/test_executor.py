"""What becomes of a lease whose parts go wrong one by one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from include.contracts.dispatch import Revoke
from include.contracts.errors import ReasonCode
from include.contracts.objects import image_key
from include.contracts.requests import ImageFormat
from include.contracts.workers import RenderProgress, Started
from include.registry.errors import ModelRejectedError
from include.storage import StoreUnavailable
from include.worker.encoding import read_parameters
from include.worker.pipeline import Pipeline
from include.worker.render import items_of
from tests.support.leases import lease_of, render_task
from tests.unit.include.worker.conftest import Bench


class Faulty:
    """The real pipeline, but that ``before_step`` may raise; it is given the state."""

    def __init__(self, pipeline: Pipeline, before_step: Callable[[Any], None]) -> None:
        self.pipeline = pipeline
        self.before_step = before_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def step(self, state: Any) -> Any:
        self.before_step(state)
        return self.pipeline.step(state)


def lease(bench: Bench, *tasks: Any, **values: Any) -> Any:
    return lease_of(*tasks, expires_at=bench.now + 30, **values)


def test_every_request_is_answered_with_its_images(bench: Bench) -> None:
    tasks = [render_task(images=3), render_task(), render_task(images=5)]
    assert bench.execute(lease(bench, *tasks), max_items=4) == ""
    assert isinstance(bench.sent.messages[0], Started)
    for task in tasks:
        done = bench.completed[task.request_id]
        assert [image.index for image in done.images] == list(range(task.images))
        assert [image.seed for image in done.images] == [task.seed + index for index in range(task.images)]
        assert all(bench.store.head(image.key) for image in done.images)
    total = sum(done.usage.gpu_seconds for done in bench.completed.values())
    assert 0 < total <= max(done.usage.render_s for done in bench.completed.values())


def test_the_request_at_fault_fails_alone(bench: Bench) -> None:
    good, bad, other = render_task(), render_task(guidance=7.5, images=2), render_task()

    def poison(state: Any) -> None:
        if (state.conditioning.guidance == 7.5).any():
            raise RuntimeError("poisoned item")

    bench.pipeline = Faulty(bench.pipeline, poison)  # type: ignore[assignment]
    bench.execute(lease(bench, good, bad, other))
    assert bench.completed.keys() == {good.request_id, other.request_id}
    failed = bench.failed[bad.request_id]
    assert (failed.reason.code, failed.retryable) == (ReasonCode.RENDER_FAILED, True)
    assert "poisoned item" in failed.reason.message


def test_a_batch_that_does_not_fit_is_split(bench: Bench) -> None:
    sizes: list[int] = []

    def small_device(state: Any) -> None:
        sizes.append(len(state.latents))
        if len(state.latents) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench.pipeline = Faulty(bench.pipeline, small_device)  # type: ignore[assignment]
    tasks = [render_task(steps=1) for _ in range(8)]
    bench.execute(lease(bench, *tasks))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert len(bench.completed) == 8 and not bench.failed


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_what_does_not_fit_even_alone_says_so(bench: Bench, error: Exception) -> None:
    def full(_: Any) -> None:
        raise error

    bench.pipeline = Faulty(bench.pipeline, full)  # type: ignore[assignment]
    task = render_task()
    bench.execute(lease(bench, task))
    assert (bench.failed[task.request_id].reason.code, bench.failed[task.request_id].retryable) == (ReasonCode.OUT_OF_MEMORY, True)


def test_a_shape_the_model_can_not_do_is_not_tried_again(bench: Bench) -> None:
    def odd(_: Any) -> None:
        raise ValueError("width 24 must be a multiple of 16")

    bench.pipeline = Faulty(bench.pipeline, odd)  # type: ignore[assignment]
    task = render_task()
    bench.execute(lease(bench, task))
    assert (bench.failed[task.request_id].reason.code, bench.failed[task.request_id].retryable) == (ReasonCode.UNSUPPORTED_SHAPE, False)


def test_a_model_that_does_not_load_fails_every_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(_: Any) -> None:
        raise ModelRejectedError("files.json has another digest")

    monkeypatch.setattr(bench, "fetch", reject)
    tasks = [render_task(), render_task()]
    bench.execute(lease(bench, *tasks))
    assert {failed.reason.code for failed in bench.failed.values()} == {ReasonCode.MODEL_LOAD_FAILED}
    assert bench.failed.keys() == {task.request_id for task in tasks}
    assert not any(failed.retryable for failed in bench.failed.values())


def test_a_revoked_request_costs_no_further_step_and_says_nothing(bench: Bench) -> None:
    cancelled, kept = render_task(), render_task()
    work = lease(bench, cancelled, kept)
    sizes: list[int] = []

    def revoke_at_second(state: Any) -> None:
        sizes.append(len(state.latents))
        if state.step == 1:
            bench.leases.revoke(Revoke(lease_id=work.lease_id, worker_id="worker-0", pool="standard", request_ids=(cancelled.request_id,)))

    bench.pipeline = Faulty(bench.pipeline, revoke_at_second)  # type: ignore[assignment]
    bench.execute(work)
    assert sizes == [2, 2, 1, 1]
    assert bench.completed.keys() == {kept.request_id} and not bench.failed
    assert bench.store.head(image_key("acme", cancelled.request_id, 0, ImageFormat.PNG)) is None


def test_a_lease_that_expires_in_mid_render_is_left_at_the_next_step(bench: Bench) -> None:
    bench.sent.away = True
    steps: list[int] = []

    def late(state: Any) -> None:
        steps.append(state.step)
        bench.now += 12

    bench.pipeline = Faulty(bench.pipeline, late)  # type: ignore[assignment]
    task = render_task(steps=8)
    assert bench.execute(lease(bench, task)) == "it expired without renewal"
    assert steps == [0, 1, 2]
    assert bench.failed[task.request_id].reason.code == ReasonCode.LEASE_EXPIRED
    assert list(bench.store.list()) == []


def test_progress_that_arrives_keeps_a_slow_lease_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.worker.executor.REPORT_EVERY_S", 0.0)

    def slow(_: Any) -> None:
        bench.now += 12

    bench.pipeline = Faulty(bench.pipeline, slow)  # type: ignore[assignment]
    task = render_task(steps=8)
    assert bench.execute(lease(bench, task)) == ""
    assert task.request_id in bench.completed
    assert [message.progress.step for message in bench.sent.messages if isinstance(message, RenderProgress)] == list(range(1, 9))


def test_an_abandoned_lease_says_nothing_because_it_is_handed_back(bench: Bench) -> None:
    bench.pipeline = Faulty(bench.pipeline, lambda _: bench.abandon.set())  # type: ignore[assignment]
    assert bench.execute(lease(bench, render_task())) == "the worker ends"
    assert not bench.completed and not bench.failed


class TestScaledUp:
    def test_what_renders_smaller_is_stored_at_the_size_that_was_asked_for(self, bench: Bench) -> None:
        task = render_task(images=2, upscale_to=(48, 32), degraded=("16x16 scaled up to 48x32",))
        bench.execute(lease(bench, task))
        for image in bench.completed[task.request_id].images:
            data = bench.store.get(image.key)
            assert (image.width, image.height) == Image.open(io.BytesIO(data)).size == (48, 32)
            assert (image.sha256, image.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
            assert (read_parameters(data) or {})["degraded"] == ["16x16 scaled up to 48x32"]

    def test_a_retry_reports_the_stored_size_too(self, bench: Bench) -> None:
        task = render_task(upscale_to=(32, 32))
        bench.execute(lease(bench, task))
        first = bench.completed[task.request_id]
        bench.execute(lease(bench, task, attempt=2))
        again = bench.completed[task.request_id]
        assert again.cached and again.images == first.images and again.images[0].width == 32

    def test_it_renders_in_one_batch_with_what_was_asked_for_at_that_size(self, bench: Bench) -> None:
        sizes: list[int] = []
        bench.pipeline = Faulty(bench.pipeline, lambda state: sizes.append(len(state.latents)))  # type: ignore[assignment]
        small, large = render_task(steps=1), render_task(steps=1, upscale_to=(32, 32))
        bench.execute(lease(bench, small, large))
        assert sizes == [2]
        assert [bench.completed[task.request_id].images[0].width for task in (small, large)] == [16, 32]


class TestStoredImages:
    def test_a_first_attempt_whose_image_is_there_reports_the_stored_one(self, bench: Bench) -> None:
        task = render_task()
        bench.store.put_if_absent(image_key("acme", task.request_id, 0, ImageFormat.PNG), b"already", "image/png")
        bench.execute(lease(bench, task))
        done = bench.completed[task.request_id]
        assert done.cached and done.images[0].size_bytes == len(b"already")

    def test_a_retry_skips_the_render_where_every_image_is_there(self, bench: Bench) -> None:
        whole, half = render_task(images=2), render_task(images=2)
        bench.execute(lease(bench, whole))
        first = bench.completed[whole.request_id]
        bench.store.put_if_absent(image_key("acme", half.request_id, 1, ImageFormat.PNG), b"already", "image/png")
        rendered: list[int] = []
        bench.pipeline = Faulty(bench.pipeline, lambda state: rendered.append(len(state.latents)))  # type: ignore[assignment]
        bench.cache = type(bench.cache)(bench, lambda directory, device: bench.pipeline)
        bench.execute(lease(bench, whole, half, attempt=2))
        assert set(rendered) == {2}
        again = bench.completed[whole.request_id]
        assert again.cached and again.images == first.images
        assert not bench.completed[half.request_id].cached

    def test_a_store_that_is_away_for_a_moment_costs_a_moment(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        task, put, calls = render_task(), bench.store.put_if_absent, []

        def away_once(*given: Any) -> Any:
            calls.append(given[0])
            if len(calls) == 1:
                raise StoreUnavailable("away")
            return put(*given)

        monkeypatch.setattr(bench.store, "put_if_absent", away_once)
        bench.execute(lease(bench, task))
        assert len(calls) == 2 and task.request_id in bench.completed

    def test_a_store_that_stays_away_fails_what_is_not_stored(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: Any) -> Any:
            raise StoreUnavailable("no space left")

        monkeypatch.setattr(bench.store, "put_if_absent", away)
        task = render_task()
        bench.execute(lease(bench, task))
        failed = bench.failed[task.request_id]
        assert (failed.reason.code, failed.retryable) == (ReasonCode.STORE_FAILED, True)
        assert "no space left" in failed.reason.message


def test_items_of_a_lease_are_all_its_images() -> None:
    tasks = [render_task("a", images=2), render_task("b")]
    assert [(item.task.request_id, item.index) for item in items_of(tasks)] == [("a", 0), ("a", 1), ("b", 0)]
