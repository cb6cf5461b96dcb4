"""Several leases in one rendering thread: they join, go before each other, and are handed on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.contracts.dispatch import AdapterRef, Lease, Revoke
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane
from include.contracts.objects import parked_key
from include.contracts.workers import Credit, Started
from include.worker.cache import ModelCache
from include.worker.loop import RenderLoop
from include.worker.parity import BatchParity
from include.worker.pipeline import Pipeline
from include.worker.ports import NoParityGate, Ports
from include.worker.slicing import Bounds
from models.backends.base import EXACT
from tests.support.leases import REF, lease_of, render_task
from tests.unit.include.worker.conftest import Bench, Faulty


def lease(bench: Bench, *tasks: Any, **values: Any) -> Lease:
    return lease_of(*tasks, expires_at=bench.now + 30, **values)


class Track:
    """The real pipeline; notes each step's items, and offers a lease at a given step."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.steps: list[tuple[int, ...]] = []  #: progress before each step
        self.at: dict[int, Callable[[], Any]] = {}  #: what happens before the step of that number
        bench.pipeline = Faulty(bench.pipeline, self._note)  # type: ignore[assignment]

    def _note(self, state: Any) -> None:
        self.at.pop(len(self.steps), lambda: None)()
        self.steps.append(state.progress)


@pytest.fixture
def track(bench: Bench) -> Track:
    return Track(bench)


def run(loop: RenderLoop) -> None:
    while loop.turn():
        pass


def images(bench: Bench, request_id: str) -> list[bytes]:
    return [bench.store.get(image.key) for image in bench.completed[request_id].images]


def uninterrupted(root: Path, pipeline: Pipeline, task: Any) -> list[bytes]:
    other = Bench(root, pipeline)
    other.execute(lease(other, task))
    return images(other, task.request_id)


class TestTimeSlices:
    def test_a_short_lease_goes_before_a_long_one_which_ends_as_it_would_have(
        self, bench: Bench, track: Track, tmp_path: Path, pipeline: Pipeline
    ) -> None:
        long, short = render_task(steps=30), render_task(steps=4)
        bench.leases.offer(lease(bench, long))
        track.at[6] = lambda: bench.leases.offer(lease(bench, short))
        run(bench.loop())
        assert track.steps == [(n,) for n in range(7)] + [(n,) for n in range(4)] + [(n,) for n in range(7, 30)]
        assert list(bench.completed) == [short.request_id, long.request_id]
        assert images(bench, long.request_id) == uninterrupted(tmp_path / "other", pipeline, long)
        parked = [(credit.slots, credit.parked, len(credit.held)) for credit in bench.sent.messages if isinstance(credit, Credit)]
        assert (3, 1, 2) in parked and parked[-1] == (2, 0, 0)

    def test_a_lease_of_like_length_waits_its_turn(self, bench: Bench, track: Track) -> None:
        first, second = render_task(steps=8), render_task(steps=4)
        bench.leases.offer(lease(bench, first))
        track.at[1] = lambda: bench.leases.offer(lease(bench, second))
        run(bench.loop())
        assert list(bench.completed) == [first.request_id, second.request_id]

    def test_an_urgent_lease_goes_before_however_long_it_is(self, bench: Bench, track: Track) -> None:
        low, high = render_task(steps=4), render_task(steps=9)
        bench.leases.offer(lease(bench, low, lane=Lane.LOW))
        track.at[1] = lambda: bench.leases.offer(lease(bench, high, lane=Lane.HIGH))
        run(bench.loop())
        assert list(bench.completed) == [high.request_id, low.request_id]
        assert track.steps[2:11] == [(n,) for n in range(9)]

    def test_a_short_lease_of_a_model_that_is_not_loaded_waits(self, bench: Bench, track: Track) -> None:
        long, short = render_task(steps=20), render_task(steps=2)
        other = REF.model_copy(update={"name": "other", "digest": "1" * 64})
        bench.leases.offer(lease(bench, long))
        track.at[1] = lambda: bench.leases.offer(lease(bench, short, model=other))
        run(bench.loop())
        assert list(bench.completed) == [long.request_id, short.request_id]

    def test_a_render_is_put_aside_only_so_often(self, bench: Bench, track: Track) -> None:
        long = render_task(steps=40)
        bench.leases.offer(lease(bench, long))
        short = [render_task(steps=1) for _ in range(5)]
        for number, task in enumerate(short):
            track.at[2 + 3 * number] = lambda task=task: bench.leases.offer(lease(bench, task))  # type: ignore[misc]
        run(bench.loop(Bounds(max_times=2)))
        assert list(bench.completed)[:3] == [short[0].request_id, short[1].request_id, long.request_id]

    def test_what_was_put_aside_for_long_goes_on_before_another_short_one(self, bench: Bench, track: Track) -> None:
        long, short, other = render_task(steps=20), render_task(steps=2), render_task(steps=2)

        def offer(task: Any) -> None:
            bench.leases.offer(lease_of(task, expires_at=bench.now + 1000))

        def much_later() -> None:
            bench.now += Bounds().max_parked_s
            offer(other)

        offer(long)
        track.at[1] = lambda: offer(short)
        track.at[3] = much_later
        run(bench.loop())
        assert list(bench.completed) == [short.request_id, long.request_id, other.request_id]

    def test_nothing_is_put_aside_where_memory_is_short(self, bench: Bench, track: Track, monkeypatch: pytest.MonkeyPatch) -> None:
        long, short = render_task(steps=20), render_task(steps=2)
        bench.leases.offer(lease(bench, long))
        track.at[1] = lambda: bench.leases.offer(lease(bench, short))
        monkeypatch.setattr("include.worker.loop.free_memory_mb", lambda device: 255.0)
        run(bench.loop())
        assert list(bench.completed) == [long.request_id, short.request_id]

    def test_one_that_was_put_aside_and_is_cancelled_frees_its_slot_at_once(self, bench: Bench, track: Track) -> None:
        low, high = lease(bench, render_task(steps=8), lane=Lane.LOW), lease(bench, render_task(steps=6), lane=Lane.HIGH)
        bench.leases.offer(low)
        held: list[tuple[str, ...]] = []
        track.at[1] = lambda: bench.leases.offer(high)
        track.at[3] = lambda: bench.leases.revoke(Revoke(lease_id=low.lease_id, worker_id="worker-0", pool="standard"))
        track.at[4] = lambda: held.append(bench.leases.held())
        run(bench.loop())
        assert held == [(high.lease_id,)]
        assert bench.completed.keys() == {high.tasks[0].request_id} and len(track.steps) == 8

    def test_a_lease_that_expires_while_it_is_put_aside_is_left(self, bench: Bench, track: Track) -> None:
        low, high = render_task(steps=8), render_task(steps=6)
        bench.leases.offer(lease(bench, low, lane=Lane.LOW))
        track.at[1] = lambda: bench.leases.offer(lease(bench, high, lane=Lane.HIGH, lease_s=100.0))
        track.at[3] = lambda: setattr(bench, "now", bench.now + 29)
        track.at[4] = lambda: bench.reporter.progress(bench.leases.running()[1].lease.lease_id, 2, 6)
        track.at[5] = lambda: setattr(bench, "now", bench.now + 29)
        run(bench.loop())
        assert bench.completed.keys() == {high.request_id}
        assert bench.failed[low.request_id].reason.code is ReasonCode.LEASE_EXPIRED


class TestJoining:
    def test_a_lease_of_the_same_key_joins_and_each_completes_when_it_is_done(
        self, bench: Bench, track: Track, tmp_path: Path, pipeline: Pipeline
    ) -> None:
        first, second = render_task(steps=4), render_task(steps=4, images=2)
        bench.leases.offer(lease(bench, first))
        track.at[2] = lambda: bench.leases.offer(lease(bench, second))
        run(bench.loop())
        assert track.steps == [(0,), (1,), (2,), (3, 0, 0), (1, 1), (2, 2), (3, 3)]
        assert list(bench.completed) == [first.request_id, second.request_id]
        assert [bench.completed[task.request_id].usage.steps for task in (first, second)] == [4, 4]
        assert len([message for message in bench.sent.messages if isinstance(message, Started)]) == 2
        total = sum(done.usage.gpu_seconds for done in bench.completed.values())
        assert 0 < total <= bench.completed[first.request_id].usage.render_s + bench.completed[second.request_id].usage.render_s

    @pytest.mark.parametrize(
        ("task", "values"),
        [({"steps": 5}, {}), ({"width": 32}, {}), ({"guidance": 1.0}, {}), ({"images": 8}, {}), ({}, {"lane": Lane.LOW})],
    )
    def test_what_is_of_another_key_or_does_not_fit_or_is_less_urgent_waits(
        self, bench: Bench, track: Track, task: dict[str, Any], values: dict[str, Any]
    ) -> None:
        bench.leases.offer(lease(bench, render_task(steps=4)))
        track.at[1] = lambda: bench.leases.offer(lease(bench, render_task(**{"steps": 4, **task}), **values))
        run(bench.loop())
        assert track.steps[:4] == [(0,), (1,), (2,), (3,)] and len(bench.completed) == 2

    def test_it_waits_where_batches_are_not_proven_or_the_pipeline_can_not(self, bench: Bench, track: Track) -> None:
        class Never(NoParityGate):
            def allows(self, *_: Any) -> int:
                return 1

        bench.leases.offer(lease(bench, render_task()))
        track.at[1] = lambda: bench.leases.offer(lease(bench, render_task()))
        run(bench.loop(ports=Ports(parity=Never())))
        bench.pipeline.joins = False  # type: ignore[misc]
        bench.leases.offer(lease(bench, render_task()))
        track.at[len(track.steps) + 1] = lambda: bench.leases.offer(lease(bench, render_task()))
        run(bench.loop())
        assert all(len(progress) == 1 for progress in track.steps) and len(bench.completed) == 4

    @pytest.mark.parametrize("cancelled", ["running", "waiting"])
    def test_a_cancel_while_a_join_is_compared_ends_that_at_once(self, bench: Bench, track: Track, tmp_path: Path, cancelled: str) -> None:
        running, waiting = lease(bench, render_task(steps=4)), lease(bench, render_task(steps=4))
        gone, kept = (running, waiting) if cancelled == "running" else (waiting, running)
        bench.leases.offer(running)
        track.at[1] = lambda: bench.leases.offer(waiting)
        track.at[2] = lambda: bench.leases.revoke(Revoke(lease_id=gone.lease_id, worker_id="worker-0", pool="standard"))
        run(bench.loop(ports=Ports(parity=BatchParity(tmp_path / "parity", EXACT))))
        left = [(0,), (1,), (2,), (3,)] if cancelled == "running" else [(2,), (3,)]
        assert track.steps == [(0,), (1,), (0, 0), *left], "one step of the comparison, and then what is wanted"
        assert bench.completed.keys() == {kept.tasks[0].request_id} and not bench.failed

    def test_adapters_of_one_name_and_other_files_do_not_render_together(self, bench: Bench, track: Track) -> None:
        class PutOnNothing:
            def put_on(self, pipeline: Pipeline, adapters: Any) -> Pipeline:
                return pipeline

        first, other = (AdapterRef(model=REF.model_copy(update={"digest": digit * 64})) for digit in "01")
        running, waiting = render_task(adapters=(first,)), render_task(adapters=(other,))
        bench.leases.offer(lease(bench, running))
        track.at[1] = lambda: bench.leases.offer(lease(bench, waiting))
        run(bench.loop(adapters=PutOnNothing()))
        assert list(bench.completed) == [running.request_id, waiting.request_id]
        assert all(len(progress) == 1 for progress in track.steps)

    def test_a_request_at_fault_that_joined_fails_alone(self, bench: Bench, track: Track) -> None:
        good, bad = render_task(steps=4), render_task(steps=4, guidance=7.5)

        def poison(state: Any) -> None:
            if (state.conditioning.guidance == 7.5).any():
                raise RuntimeError("poisoned item")

        bench.pipeline = Faulty(bench.pipeline, poison)  # type: ignore[assignment]
        bench.leases.offer(lease(bench, good))
        track.at[1] = lambda: bench.leases.offer(lease(bench, bad))
        run(bench.loop())
        assert bench.completed.keys() == {good.request_id} and bench.failed.keys() == {bad.request_id}
        assert bench.completed[good.request_id].usage.steps == 4

    def test_a_lease_that_expires_leaves_the_one_that_joined_it(self, bench: Bench, track: Track) -> None:
        first, second = render_task(steps=4), render_task(steps=4)
        bench.sent.away = True
        bench.leases.offer(lease(bench, first))
        track.at[1] = lambda: bench.leases.offer(lease_of(second, expires_at=bench.now + 300))
        track.at[3] = lambda: setattr(bench, "now", bench.now + 100)
        run(bench.loop())
        assert bench.completed.keys() == {second.request_id}
        assert bench.failed[first.request_id].reason.code is ReasonCode.LEASE_EXPIRED


class TestHandedOn:
    def abandon_at(self, bench: Bench, track: Track, step: int) -> RenderLoop:
        track.at[step] = bench.abandon.set
        loop = bench.loop()
        run(loop)
        return loop

    def test_another_worker_goes_on_from_the_step_and_makes_the_same_image(
        self, bench: Bench, track: Track, tmp_path: Path, pipeline: Pipeline
    ) -> None:
        task, mate = render_task(steps=8, images=2), render_task(steps=8)
        work = lease(bench, task, mate)
        bench.leases.offer(work)
        loop = self.abandon_at(bench, track, 4)
        assert loop.handed_back == [work.lease_id] and not bench.completed and not bench.failed
        assert set(bench.store.list("parked/")) == {parked_key("acme", one.request_id) for one in (task, mate)}
        other = Bench(tmp_path, pipeline)
        other.execute(lease(other, task, mate, attempt=2))
        for one in (task, mate):
            usage = other.completed[one.request_id].usage
            assert (usage.steps, usage.cache_hits, usage.notes) == (3, ("parked",), ("resumed from step 5",))
        assert list(other.store.list("parked/")) == []
        whole = Bench(tmp_path / "whole", pipeline)
        whole.execute(lease(whole, task, mate))
        assert images(other, task.request_id) == images(whole, task.request_id)

    def test_what_was_put_aside_is_handed_on_too(self, bench: Bench, track: Track) -> None:
        low, high = lease(bench, render_task(steps=8), lane=Lane.LOW), lease(bench, render_task(steps=8), lane=Lane.HIGH)
        bench.leases.offer(low)
        track.at[1] = lambda: bench.leases.offer(high)
        loop = self.abandon_at(bench, track, 4)
        assert set(loop.handed_back) == {low.lease_id, high.lease_id} and bench.leases.held() == ()
        assert len(list(bench.store.list("parked/"))) == 2

    def test_a_first_attempt_does_not_ask_the_store(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr(bench.store, "get", asked.append)
        bench.execute(lease(bench, render_task()))
        assert asked == [] and len(bench.completed) == 1


def test_what_should_not_happen_fails_the_lease_and_the_loop_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise AssertionError("a bug")

    first, second = render_task(), render_task()
    loop = bench.loop()
    with monkeypatch.context() as patch:
        patch.setattr("include.worker.executor.admit", broken)
        bench.leases.offer(lease(bench, first))
        run(loop)
    bench.leases.offer(lease(bench, second))
    run(loop)
    assert bench.failed[first.request_id].reason.code is ReasonCode.RENDER_FAILED and bench.leases.held() == ()
    assert bench.completed.keys() == {second.request_id} and loop.completed == 1


def test_a_model_that_does_not_load_leaves_the_others_alone(bench: Bench) -> None:
    other = REF.model_copy(update={"name": "other", "digest": "1" * 64})
    bad, good = render_task(), render_task()

    def load(directory: Path, device: str) -> Pipeline:
        if bench.cache.has(REF):
            raise ValueError("no weights")
        return bench.pipeline

    bench.cache = ModelCache(bench, load)
    bench.execute(lease(bench, good))
    bench.execute(lease(bench, bad, model=other))
    assert bench.completed.keys() == {good.request_id}
    assert bench.failed[bad.request_id].reason.code is ReasonCode.MODEL_LOAD_FAILED
