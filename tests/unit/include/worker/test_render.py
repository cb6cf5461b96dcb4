from __future__ import annotations

from collections.abc import Sequence

import numpy
import pytest
from PIL.Image import Image

from include.contracts.dispatch import RenderTask
from include.worker.pipeline import Pipeline
from include.worker.render import MAX_SEED, Render, items_of
from tests.support.leases import render_task

TOLERANCE = 2  #: levels of 255, for the last bits that differ between batch sizes


def finish(render: Render) -> list[Image]:
    while not render.done:
        render.advance()
    return [image for _, image in render.images()]


def alike(one: Image, other: Image) -> bool:
    return int(numpy.abs(numpy.asarray(one, int) - numpy.asarray(other, int)).max()) <= TOLERANCE


def alone(pipeline: Pipeline, tasks: Sequence[RenderTask]) -> list[Image]:
    return [finish(Render(pipeline, [item]))[0] for item in items_of(tasks)]


def test_a_batch_gives_each_item_the_image_it_would_get_alone(pipeline: Pipeline) -> None:
    tasks = [render_task(prompt="red heart", images=2), render_task(prompt="a cat", guidance=4.0), render_task(negative_prompt="blue")]
    together = finish(Render(pipeline, items_of(tasks)))
    assert all(alike(one, other) for one, other in zip(together, alone(pipeline, tasks), strict=True))
    assert not alike(together[0], together[1])  # two seeds, or the comparison would show nothing


def test_the_steps_are_the_callers(pipeline: Pipeline) -> None:
    render = Render(pipeline, items_of([render_task(steps=3)]))
    steps = []
    while not render.done:
        steps.append(render.step)
        render.advance()
    assert steps == [0, 1, 2] and render.step == render.steps == 3
    assert render.device_s > 0


def test_a_dropped_request_leaves_the_others_as_they_were(pipeline: Pipeline) -> None:
    tasks = [render_task(prompt="sun"), render_task(prompt="moon", images=2), render_task(prompt="star")]
    render = Render(pipeline, items_of(tasks))
    render.advance()
    render.drop({tasks[1].request_id})
    kept = finish(render)
    assert [item.task.prompt for item in render.items] == ["sun", "star"]
    assert all(alike(one, other) for one, other in zip(kept, alone(pipeline, [tasks[0], tasks[2]]), strict=True))


def test_a_render_without_items_is_done(pipeline: Pipeline) -> None:
    task = render_task()
    for advanced in (False, True):
        render = Render(pipeline, items_of([task]))
        if advanced:
            render.advance()
        render.drop({task.request_id})
        assert render.done and render.images() == []


def test_seeds_count_on_and_wrap() -> None:
    items = items_of([render_task(seed=MAX_SEED - 1, images=2)])
    assert [item.seed for item in items] == [MAX_SEED - 1, 0]


def test_a_shape_the_model_can_not_do_is_a_value_error(pipeline: Pipeline) -> None:
    class Odd:
        def __getattr__(self, name: str) -> object:
            return getattr(pipeline, name)

        def prepare(self, *args: object, **values: object) -> None:
            raise ValueError("width 24 must be a multiple of 16")

    with pytest.raises(ValueError, match="multiple of 16"):
        Render(Odd(), items_of([render_task()])).start()  # type: ignore[arg-type]
