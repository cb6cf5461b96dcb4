"""What becomes of a lease whose parts go wrong one by one."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from include.contracts.dispatch import BatchKey, Lease, ModelRef, RenderTask, Revoke
from include.contracts.errors import ReasonCode
from include.contracts.events import ImageResult
from include.contracts.objects import image_key, preview_key
from include.contracts.requests import ImageFormat
from include.contracts.workers import RenderProgress, Started
from include.registry.errors import ModelRejectedError
from include.storage import StoreUnavailable
from include.worker import results
from include.worker.encoding import read_parameters
from include.worker.parity import BatchParity
from include.worker.pipeline import Pipeline
from include.worker.ports import Encoded, Found, NoParityGate, NoResultCache, NoSafetyChecker, Ports, SafetyMode, always
from include.worker.previews import PreviewWriter
from include.worker.render import items_of
from models.backends.base import EXACT
from tests.support.leases import lease_of, render_task
from tests.support.waiting import wait_for
from tests.unit.include.worker.conftest import Bench, Faulty


def lease(bench: Bench, *tasks: Any, **values: Any) -> Any:
    return lease_of(*tasks, expires_at=bench.now + 30, **values)


def cancel(bench: Bench, work: Lease, task: RenderTask) -> None:
    bench.leases.revoke(Revoke(lease_id=work.lease_id, worker_id="worker-0", pool="standard", request_ids=(task.request_id,)))


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


@pytest.mark.parametrize(
    ("odd", "words"),
    [({"steps": 3}, "steps"), ({"width": 32}, "width"), ({"guidance": 1.0}, "guided"), ({"strength": 0.5}, "variant")],
)
def test_a_request_of_another_shape_than_its_batch_is_not_rendered_as_its_mates_are(bench: Bench, odd: dict[str, Any], words: str) -> None:
    good, stranger = render_task(), render_task(**odd)
    bench.execute(lease(bench, good, stranger))
    assert bench.completed.keys() == {good.request_id}
    failed = bench.failed[stranger.request_id]
    assert (failed.reason.code, failed.retryable) == (ReasonCode.INVALID_FIELD, True)
    assert failed.reason.message.startswith(f"{words}: not as in the lease's batch key tiny/1|16x16|4|cfg")


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
        if min(state.progress) == 1:
            cancel(bench, work, cancelled)

    bench.pipeline = Faulty(bench.pipeline, revoke_at_second)  # type: ignore[assignment]
    bench.execute(work)
    assert sizes == [2, 2, 1, 1]
    assert bench.completed.keys() == {kept.request_id} and not bench.failed
    assert bench.store.head(image_key("acme", cancelled.request_id, 0, ImageFormat.PNG)) is None


class Revoking:
    """The real pipeline, which notes its calls; the request is cancelled while the given one is under way."""

    def __init__(self, bench: Bench, call: str, work: Any, request_id: str) -> None:
        self.pipeline = bench.pipeline
        self.calls: list[str] = []
        self.call = call
        self.revoke = lambda: bench.leases.revoke(
            Revoke(lease_id=work.lease_id, worker_id="worker-0", pool="standard", request_ids=(request_id,))
        )

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.pipeline, name)
        if name not in ("encode", "step", "preview", "decode"):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if f"{name} {self.calls.count(name)}" == self.call:
                self.revoke()
            return found(*arguments)

        return call


@pytest.mark.parametrize(
    ("during", "calls"),
    [
        ("encode 1", ["encode"]),
        ("step 1", ["encode", "step"]),
        ("step 4", ["encode", *3 * ["step", "preview"], "step"]),
        ("decode 1", ["encode", *4 * ["step", "preview"], "decode"]),
    ],
)
def test_a_cancelled_request_costs_the_call_that_is_under_way_and_nothing_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, during: str, calls: list[str]
) -> None:
    monkeypatch.setattr("include.worker.assignment.REPORT_EVERY_S", 0.0)
    task = render_task(steps=4)
    work, previews = lease(bench, task), PreviewWriter(bench.store)
    bench.pipeline = pipeline = Revoking(bench, during, work, task.request_id)  # type: ignore[assignment]
    bench.execute(work, previews=previews)
    previews.close(10)
    assert pipeline.calls == calls  # type: ignore[comparison-overlap]
    assert not bench.completed and not bench.failed and list(bench.store.list("images/")) == []


@pytest.mark.parametrize(
    ("during", "calls"),
    [
        ("encode 1", ["encode"]),
        ("step 1", ["encode", "step"]),
        ("step 2", ["encode", "step", "step"]),
        ("decode 1", ["encode", "step", "step", "decode"]),
        ("encode 2", ["encode", "step", "step", "decode", "encode"]),
    ],
)
def test_a_request_that_is_cancelled_while_its_shape_is_compared_ends_that_too(
    bench: Bench, tmp_path: Path, during: str, calls: list[str]
) -> None:
    gate, task = BatchParity(tmp_path / "parity", EXACT), render_task(images=3)
    work, plain = lease(bench, task), bench.pipeline
    bench.pipeline = pipeline = Revoking(bench, during, work, task.request_id)  # type: ignore[assignment]
    bench.execute(work, ports=Ports(parity=gate))
    assert pipeline.calls == calls  # type: ignore[comparison-overlap]
    assert not bench.completed and not bench.failed
    assert gate.allows(plain, work.model, work.batch_key, 3) is None, "nothing was found out"


@pytest.mark.parametrize("ends", ["worker", "lease"])
def test_a_shape_is_compared_no_further_once_the_worker_or_the_lease_ends(bench: Bench, tmp_path: Path, ends: str) -> None:
    steps: list[int] = []

    def end(state: Any) -> None:
        steps.append(len(state.latents))
        bench.abandon.set() if ends == "worker" else setattr(bench, "now", bench.now + 100)

    bench.sent.away = True
    bench.pipeline = Faulty(bench.pipeline, end)  # type: ignore[assignment]
    task = render_task(images=2)
    why = bench.execute(lease(bench, task), ports=Ports(parity=BatchParity(tmp_path / "parity", EXACT)))
    assert steps == [2] and why == ("the worker ends" if ends == "worker" else "it expired without renewal")
    assert not bench.completed


def test_a_cancelled_request_leaves_its_mates_before_they_are_decoded(bench: Bench) -> None:
    cancelled, kept = render_task(steps=2), render_task(steps=2)
    work = lease(bench, cancelled, kept)
    bench.pipeline = Revoking(bench, "step 2", work, cancelled.request_id)  # type: ignore[assignment]
    bench.execute(work)
    assert bench.completed.keys() == {kept.request_id} and not bench.failed
    assert bench.completed[kept.request_id].usage.steps == 2


def test_a_worker_that_ends_keeps_what_was_rendered_but_not_decoded(bench: Bench) -> None:
    task = render_task(steps=2)
    steps: list[int] = []

    def end_at_last(state: Any) -> None:
        steps.append(min(state.progress))
        if len(steps) == 2:
            bench.abandon.set()

    bench.pipeline = Faulty(bench.pipeline, end_at_last)  # type: ignore[assignment]
    assert bench.execute(lease(bench, task)) == "the worker ends"
    assert not bench.completed and not bench.failed
    bench.abandon.clear()
    bench.execute(lease(bench, task, attempt=2))
    assert steps == [0, 1] and bench.completed[task.request_id].usage.cache_hits == ("parked",)


def test_a_lease_that_expires_in_mid_render_is_left_at_the_next_step(bench: Bench) -> None:
    bench.sent.away = True
    steps: list[int] = []

    def late(state: Any) -> None:
        steps.append(min(state.progress))
        bench.now += 12

    bench.pipeline = Faulty(bench.pipeline, late)  # type: ignore[assignment]
    task = render_task(steps=8)
    assert bench.execute(lease(bench, task)) == "it expired without renewal"
    assert steps == [0, 1, 2]
    assert bench.failed[task.request_id].reason.code == ReasonCode.LEASE_EXPIRED
    assert list(bench.store.list()) == []


def test_progress_that_arrives_keeps_a_slow_lease_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.worker.assignment.REPORT_EVERY_S", 0.0)

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
        assert set(rendered) == {1}  # the image that is there is not rendered again
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


class Absent:
    """The bench's store, of which a call named ``gone`` hangs, or fails at once, until it is ``back``."""

    def __init__(self, bench: Bench, gone: str, *, hangs: bool) -> None:
        bench.store.remote = True
        self.asked: list[str] = []
        self.back = threading.Event()
        there = getattr(bench.store, gone)

        def call(*given: Any) -> Any:
            self.asked.append(given[0])
            if hangs:
                self.back.wait(60)
            elif not self.back.is_set():
                raise StoreUnavailable("away")
            return there(*given)

        setattr(bench.store, gone, call)

    def is_asked_for(self, task: RenderTask) -> bool:
        return wait_for(lambda: any(task.request_id in key or key == task.init_image for key in list(self.asked)), 30)


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "fails"])
def test_a_request_cancelled_while_the_store_is_away_ends_at_once_and_its_mates_complete_later(bench: Bench, hangs: bool) -> None:
    bench.results.patience_s = 600.0
    store = Absent(bench, "put_if_absent", hangs=hangs)
    cancelled, mate = render_task(), render_task()
    work = lease(bench, cancelled, mate)
    with ThreadPoolExecutor(1) as pool:
        rendering = pool.submit(bench.execute, work)
        assert store.is_asked_for(cancelled)
        cancel(bench, work, cancelled)
        assert store.is_asked_for(mate)  # its image is next, though the store is still away
        store.back.set()
        rendering.result(30)
    assert bench.completed.keys() == {mate.request_id} and not bench.failed


def test_a_cancelled_request_does_not_wait_for_the_image_that_it_starts_from(bench: Bench) -> None:
    store = Absent(bench, "head", hangs=True)
    task = render_task(init_image="inputs/acme/a.png", strength=0.5)
    work = lease(bench, task)
    with ThreadPoolExecutor(1) as pool:
        rendering = pool.submit(bench.execute, work)
        assert store.is_asked_for(task)
        cancel(bench, work, task)
        rendering.result(30)
    assert not store.back.is_set() and not bench.completed and not bench.failed
    store.back.set()


def test_a_worker_that_ends_does_not_wait_for_a_store_that_hangs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LAST_ANSWER_S", 0.0)
    store = Absent(bench, "put_if_absent", hangs=True)
    with ThreadPoolExecutor(1) as pool:
        task = render_task()
        rendering = pool.submit(bench.execute, lease(bench, task))
        assert store.is_asked_for(task)
        bench.abandon.set()
        assert "the worker ends" in rendering.result(30)
    store.back.set()
    assert not bench.completed and not bench.failed


def test_items_of_a_lease_are_all_its_images() -> None:
    tasks = [render_task("a", images=2), render_task("b")]
    assert [(item.task.request_id, item.index) for item in items_of(tasks)] == [("a", 0), ("a", 1), ("b", 0)]


class TestPorts:
    def test_a_shape_whose_batches_differ_renders_one_by_one_and_says_so(self, bench: Bench) -> None:
        class Doubtful(NoParityGate):
            checked: ClassVar[list[int]] = []

            def allows(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int) -> int | None:
                return None if not self.checked else 1

            def check(self, pipeline: Pipeline, model: ModelRef, key: BatchKey, size: int, wanted: Callable[[], bool] = always) -> int:
                self.checked.append(size)
                return 1

        sizes: list[int] = []
        bench.pipeline = Faulty(bench.pipeline, lambda state: sizes.append(len(state.latents)))  # type: ignore[assignment]
        tasks = [render_task(steps=1), render_task(steps=1, images=2)]
        bench.execute(lease(bench, *tasks), ports=Ports(parity=Doubtful()))
        assert sizes == [1, 1, 1] and Doubtful.checked == [3]
        for task in tasks:
            (note,) = bench.completed[task.request_id].usage.notes
            assert "rendered 1 at a time" in note and "torch-eager" in note

    def test_what_a_cache_finds_is_not_rendered_and_is_disclosed(self, bench: Bench) -> None:
        task, other = render_task(images=2), render_task()
        bench.execute(lease(bench, task))
        first = bench.completed[task.request_id].images
        remembered: list[str] = []

        class Near(NoResultCache):
            def find(self, task: RenderTask, index: int, model: ModelRef, pipeline: Pipeline) -> Found | None:
                return Found(first[index], "near", ("an earlier image",)) if task.request_id != other.request_id else None

            def remember(self, task: RenderTask, image: ImageResult, model: ModelRef, pipeline: Pipeline) -> None:
                remembered.append(task.request_id)

        repeat = render_task(images=2)
        bench.execute(lease(bench, repeat, other), ports=Ports(results=Near()))
        done = bench.completed[repeat.request_id]
        assert done.cached and done.images == first and done.degraded == ("an earlier image",)
        assert (done.usage.cache_hits, done.usage.steps, done.usage.gpu_seconds) == (("near",), 0, 0)
        assert not bench.completed[other.request_id].cached and remembered == [other.request_id]

    @pytest.mark.parametrize("mode", [SafetyMode.FLAG, SafetyMode.BLOCK])
    def test_a_flagged_image_is_flagged_or_its_request_fails(self, bench: Bench, mode: SafetyMode) -> None:
        looks = iter([(), ("gore",)])

        class Checker:
            def __init__(self) -> None:
                self.mode = mode

            def check(self, images: Sequence[Image.Image]) -> list[tuple[str, ...]]:
                return [next(looks) for _ in images]

        good, bad = render_task(), render_task()
        bench.execute(lease(bench, good, bad), ports=Ports(safety=Checker()))
        assert bench.completed[good.request_id].images[0].flags == ()
        if mode is SafetyMode.FLAG:
            assert bench.completed[bad.request_id].images[0].flags == ("gore",)
            return
        failed = bench.failed[bad.request_id]
        assert (failed.reason.code, failed.retryable) == (ReasonCode.UNSAFE_CONTENT, False)
        assert "gore" in failed.reason.message and list(bench.store.list(f"images/acme/{bad.request_id}")) == []

    def test_a_checker_that_fails_lets_nothing_pass(self, bench: Bench) -> None:
        class Broken(NoSafetyChecker):
            mode = SafetyMode.FLAG

            def check(self, images: Sequence[Image.Image]) -> list[tuple[str, ...]]:
                raise RuntimeError("no classifier")

        task = render_task()
        bench.execute(lease(bench, task), ports=Ports(safety=Broken()))
        assert bench.failed[task.request_id].reason.code is ReasonCode.RENDER_FAILED
        assert list(bench.store.list("images/")) == []

    def test_an_encoder_with_a_cache_is_disclosed_by_request(self, bench: Bench) -> None:
        class Half:
            def encode(self, pipeline: Any, model: Any, prompts: Any, negatives: Any, guidance: Any) -> Encoded:
                return Encoded(pipeline.encode(prompts, negatives, guidance), [prompt == "known" for prompt in prompts])

        known, fresh = render_task(prompt="known"), render_task(prompt="fresh")
        bench.execute(lease(bench, known, fresh), ports=Ports(prompts=Half()))
        assert bench.completed[known.request_id].usage.cache_hits == ("prompt",)
        assert bench.completed[fresh.request_id].usage.cache_hits == ()


class TestImageToImage:
    def start(self, bench: Bench, key: str, data: bytes | None = None) -> str:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), "red").save(buffer, "PNG")
        bench.store.put_if_absent(key, data or buffer.getvalue(), "image/png")
        return key

    def test_only_the_steps_that_the_strength_leaves_are_run(self, bench: Bench) -> None:
        task = render_task(steps=8, strength=0.5, init_image=self.start(bench, "inputs/acme/red.png"))
        bench.execute(lease(bench, task))
        assert bench.completed[task.request_id].usage.steps == 4

    def test_a_bad_image_fails_its_own_request(self, bench: Bench) -> None:
        good, bad, missing = (
            render_task(strength=0.5, init_image=key)
            for key in (self.start(bench, "inputs/acme/red.png"), self.start(bench, "inputs/acme/bad.png", b"x"), "inputs/acme/none.png")
        )
        bench.execute(lease(bench, bad, good, missing))
        assert bench.completed.keys() == {good.request_id}
        for task in (bad, missing):
            failed = bench.failed[task.request_id]
            assert (failed.reason.code, failed.retryable) == (ReasonCode.INVALID_FIELD, False)
            assert "init_image" in failed.reason.message


def test_running_requests_show_how_they_look_to_become(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.worker.assignment.REPORT_EVERY_S", 0.0)
    previews = PreviewWriter(bench.store)
    task = render_task(steps=4, images=2)
    seen: list[bytes] = []

    def look(state: Any) -> None:
        if min(state.progress) == 2:
            seen.append(wait_for(lambda: bench.store.head(preview_key("acme", task.request_id)) and previews.idle, 10) and b"seen")

    bench.pipeline = Faulty(bench.pipeline, look)  # type: ignore[assignment]
    bench.execute(lease(bench, task), previews=previews)
    previews.close(10)
    assert seen and task.request_id in bench.completed
    named = {key for message in bench.sent.messages if isinstance(message, RenderProgress) for key in message.progress.previews}
    assert named == {preview_key("acme", task.request_id)}
    assert list(bench.store.list("previews/")) == []


def test_a_preview_that_fails_does_not_cost_the_render(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(Faulty):
        def preview(self, state: Any) -> Any:
            raise RuntimeError("no preview")

    monkeypatch.setattr("include.worker.assignment.REPORT_EVERY_S", 0.0)
    bench.pipeline = Blind(bench.pipeline, lambda _: None)  # type: ignore[assignment]
    previews, task = PreviewWriter(bench.store), render_task()
    bench.execute(lease(bench, task), previews=previews)
    previews.close(10)
    assert task.request_id in bench.completed
