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
    """The images in the order of the items."""
    order, images = {item: position for position, item in enumerate(render.items)}, []
    while render.items:
        if not render.finished:
            render.advance()
        images += render.take_images()
    return [image for _, image in sorted(images, key=lambda pair: order[pair[0]])]


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
    (item,) = render.items
    while not render.finished:
        steps.append(render.progress)
        render.advance()
    assert steps == [(0,), (1,), (2,)] and render.progress == (render.steps,) == (3,)
    assert item.ran == 3 and item.device_s > 0


def test_a_dropped_request_leaves_the_others_as_they_were(pipeline: Pipeline) -> None:
    tasks = [render_task(prompt="sun"), render_task(prompt="moon", images=2), render_task(prompt="star")]
    render = Render(pipeline, items_of(tasks))
    render.advance()
    render.drop(lambda item: item.task is tasks[1])
    assert [item.task.prompt for item in render.items] == ["sun", "star"]
    kept = finish(render)
    assert all(alike(one, other) for one, other in zip(kept, alone(pipeline, [tasks[0], tasks[2]]), strict=True))


@pytest.mark.parametrize("advanced", [False, True])
def test_a_render_without_items_has_nothing_left(pipeline: Pipeline, advanced: bool) -> None:
    render = Render(pipeline, items_of([render_task()]))
    if advanced:
        render.advance()
    render.drop(lambda _: True)
    assert render.left == 0 and render.take_images() == [] and not render.finished


def test_items_that_join_end_on_their_own(pipeline: Pipeline) -> None:
    first, second = items_of([render_task(prompt="sun", steps=4)]), items_of([render_task(prompt="moon", steps=4)])
    render = Render(pipeline, first)
    render.advance()
    render.advance()
    render.join(Render(pipeline, second))
    assert render.progress == (2, 0) and render.left == 6
    together = []
    while render.items:
        render.advance()
        together += render.take_images()
    assert [item for item, _ in together] == [*first, *second]
    apart = alone(pipeline, [first[0].task, second[0].task])
    assert all(alike(image, other) for (_, image), other in zip(together, apart, strict=True))
    assert [item.ran for item, _ in together] == [4, 4]


def test_a_part_goes_on_from_where_the_whole_was(pipeline: Pipeline) -> None:
    tasks = [render_task(prompt="sun"), render_task(prompt="moon")]
    render = Render(pipeline, items_of(tasks))
    render.advance()
    part = render.part([1])
    assert part.progress == (1,) and part.items == render.items[1:]
    assert alike(finish(part)[0], alone(pipeline, tasks)[1])


def test_a_call_is_charged_to_the_items_that_it_was_for(pipeline: Pipeline) -> None:
    late, early = items_of([render_task(), render_task()])
    render = Render(pipeline, [early])
    for _ in range(3):
        render.advance()
    spent = early.device_s
    other = Render(pipeline, [late])
    other.begin()
    assert late.device_s > 0 and early.device_s == spent
    render.join(other)
    before = (early.device_s, late.device_s)
    render.advance()
    assert early.device_s - before[0] == pytest.approx(late.device_s - before[1])


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
        Render(Odd(), items_of([render_task()])).begin()  # type: ignore[arg-type]
