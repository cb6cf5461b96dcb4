"""Renders that another worker goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.contracts.dispatch import AdapterRef, RenderTask
from include.contracts.objects import parked_key
from include.storage import StoreUnavailable
from include.storage.directory import DirectoryStore
from include.worker.parked import ParkedRenders, describe, stamp
from include.worker.pipeline import Pipeline, RenderState
from include.worker.render import Render, items_of
from tests.support.leases import REF, render_task


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def parked(store: DirectoryStore) -> ParkedRenders:
    return ParkedRenders(store)


def begun(pipeline: Pipeline, task: RenderTask, steps: int = 2) -> RenderState:
    render = Render(pipeline, items_of([task]))
    for _ in range(steps):
        render.advance()
    assert render.state is not None
    return render.state


def finished(pipeline: Pipeline, state: Any) -> list[bytes]:
    while min(state.progress) < state.steps:
        state = pipeline.step(state)
    return [image.tobytes() for image in pipeline.decode(state)]


def test_it_goes_on_to_the_same_bits(parked: ParkedRenders, pipeline: Pipeline) -> None:
    task = render_task(images=2)
    state = begun(pipeline, task)
    assert parked.save(task, [0, 1], state, REF, pipeline.backend)
    found = parked.find(task, REF, pipeline)
    assert found is not None and found.indices == (0, 1) and found.state.progress == (2, 2)
    assert finished(pipeline, found.state) == finished(pipeline, state)
    parked.discard(task)
    assert parked.find(task, REF, pipeline) is None


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 999},
        {"prompt": "another"},
        {"negative_prompt": "another"},
        {"guidance": 3.5},
        {"width": 32},
        {"steps": 5},
        {"images": 1},
        {"adapters": (AdapterRef(model=REF, weight=0.5),)},
        {"init_image": "images/acme/r/0.png", "strength": 0.5},
    ],
)
def test_a_render_of_something_else_is_discarded(
    parked: ParkedRenders, store: DirectoryStore, pipeline: Pipeline, change: dict[str, Any]
) -> None:
    task = render_task(images=2, seed=1)
    parked.save(task, [0, 1], begun(pipeline, task), REF, pipeline.backend)
    assert parked.find(task.model_copy(update=change), REF, pipeline) is None
    assert list(store.list()) == []


def test_another_models_or_backends_render_is_discarded(parked: ParkedRenders, pipeline: Pipeline) -> None:
    task = render_task()
    state = begun(pipeline, task)
    parked.save(task, [0], state, REF, pipeline.backend)
    assert parked.find(task, REF.model_copy(update={"digest": "1" * 64}), pipeline) is None
    parked.save(task, [0], state, REF, "onnxruntime")
    assert parked.find(task, REF, pipeline) is None


def test_what_is_broken_is_discarded(parked: ParkedRenders, store: DirectoryStore, pipeline: Pipeline) -> None:
    task = render_task()
    key = parked_key(task.tenant, task.request_id)
    parked.save(task, [0], begun(pipeline, task), REF, pipeline.backend)
    whole = store.get(key)
    flipped = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    unstamped = begun(pipeline, task).dump()
    for data in (b"", b"junk", b"\xff" * 64, whole[:40], whole[:-1], flipped, unstamped, stamp(unstamped, {"indices": "x"})):
        store.put(key, data, "application/octet-stream")
        assert parked.find(task, REF, pipeline) is None
        assert store.head(key) is None


def test_a_state_of_other_items_than_it_says_is_discarded(parked: ParkedRenders, store: DirectoryStore, pipeline: Pipeline) -> None:
    task = render_task(images=3)
    state = begun(pipeline, task)
    for indices in ([0, 1], [0, 1, 3], [0, 1, 2, 3]):
        store.put(parked_key("acme", task.request_id), stamp(state.dump(), describe(task, indices, REF, pipeline.backend)), "x/y")
        assert parked.find(task, REF, pipeline) is None


def test_a_store_that_is_away_costs_only_the_saving(parked: ParkedRenders, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    task = render_task()
    for name in ("put", "get", "delete"):
        monkeypatch.setattr(parked.store, name, away)
    assert not parked.save(task, [0], begun(pipeline, task), REF, pipeline.backend)
    assert parked.find(task, REF, pipeline) is None
    parked.discard(task)
