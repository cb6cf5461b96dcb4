from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from include.contracts.dispatch import BatchKey, ModelRef
from include.worker.parity import MAX_SHAPES, BatchParity, Deviation, batch_deviation, deviation
from include.worker.pipeline import Pipeline
from models.backends.base import EXACT

MODEL = ModelRef(name="emoji", version="1", digest="d" * 64, source="mlflow-artifacts:/1")
KEY = BatchKey(model="emoji/1", width=16, height=16, steps=4, guided=True)


@dataclass(frozen=True)
class Leaking:
    """A pipeline in which each item of a batch is brighter by the number of its mates, times ``leak``."""

    leak: int = 0
    breaks_at: int = 99
    backend: str = "torch-eager"
    renders: list[int] = field(default_factory=list)

    def encode(self, prompts: list[str], negative_prompts: list[str], guidance: list[float]) -> list[str]:
        return prompts

    def prepare(self, conditioning: list[str], seeds: list[int], width: int, height: int, steps: int) -> tuple[list[int], int]:
        if len(seeds) >= self.breaks_at:
            raise RuntimeError("no room")
        return seeds, width

    def step(self, state: tuple[list[int], int]) -> tuple[list[int], int]:
        return state

    def decode(self, state: tuple[list[int], int]) -> list[Image.Image]:
        seeds, side = state
        self.renders.append(len(seeds))
        return [Image.new("RGB", (side, side), (100 + seed + self.leak * (len(seeds) - 1), 0, 0)) for seed in seeds]


def test_differences_are_of_the_worst_value_and_the_worst_image() -> None:
    black, grey = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), (3, 3, 3))
    spot = black.copy()
    spot.putpixel((0, 0), (12, 0, 0))
    assert deviation([black, spot], [black, black]) == Deviation(max=12, mean=1, average=0.5)
    assert deviation([spot, grey], [black, black]) == Deviation(max=12, mean=3, average=2)
    with pytest.raises(ValueError, match="4, 4"):
        deviation([black], [Image.new("RGB", (4, 4))])


@pytest.mark.parametrize(("max_", "mean", "within"), [(0, 0, True), (1, 0, False), (0, 0.1, False)])
def test_both_the_worst_value_and_the_mean_have_their_limit(max_: float, mean: float, within: bool) -> None:
    found = Deviation(max=EXACT.max + max_, mean=EXACT.mean + mean, average=0)
    assert found.within(EXACT) is within


def test_a_real_pipeline_gives_in_a_batch_what_it_gives_alone(pipeline: Pipeline) -> None:
    assert batch_deviation(pipeline, 3, 16, 16).within(EXACT)


def test_a_batch_that_agrees_is_used_from_then_on(tmp_path: Path) -> None:
    gate, good = BatchParity(tmp_path, EXACT), Leaking()
    assert gate.allows(good, MODEL, KEY, 4) is None
    assert gate.check(good, MODEL, KEY, 4) == 4
    assert (gate.allows(good, MODEL, KEY, 4), gate.allows(good, MODEL, KEY, 3), gate.allows(good, MODEL, KEY, 5)) == (4, 3, None)
    assert good.renders == [4, 1, 1, 1, 1]


def test_a_shape_whose_batch_differs_renders_alone_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = BatchParity(tmp_path, EXACT)
    with caplog.at_level(logging.WARNING):
        assert gate.check(Leaking(leak=5), MODEL, KEY, 2) == 1
    assert gate.allows(Leaking(), MODEL, KEY, 4) == 1
    assert "emoji/1 at 16x16 on torch-eager: a batch of 2 differs from single renders (max 5" in caplog.text


def test_a_larger_batch_that_differs_leaves_what_was_proven(tmp_path: Path) -> None:
    gate = BatchParity(tmp_path, EXACT)
    assert gate.check(Leaking(leak=1), MODEL, KEY, 1 + int(EXACT.mean)) == 1
    assert gate.check(Leaking(), MODEL, KEY, 4) == 4
    assert gate.check(Leaking(leak=1), MODEL, KEY, 8) == 4
    assert [gate.allows(Leaking(), MODEL, KEY, size) for size in (2, 4, 8)] == [2, 4, 4]


@pytest.mark.parametrize("changed", ["digest", "width", "guided", "backend"])
def test_nothing_is_concluded_for_another_model_shape_or_backend(changed: str, tmp_path: Path) -> None:
    gate, pipeline, model, key = BatchParity(tmp_path, EXACT), Leaking(), MODEL, KEY
    assert gate.check(pipeline, model, key, 4) == 4
    if changed == "backend":
        pipeline = replace(pipeline, backend="openvino")
    elif changed == "digest":
        model = MODEL.model_copy(update={"digest": "e" * 64})
    else:
        key = KEY.model_copy(update={changed: 32 if changed == "width" else False})
    assert gate.allows(pipeline, model, key, 4) is None


def test_steps_and_prompts_do_not_matter(tmp_path: Path) -> None:
    gate = BatchParity(tmp_path, EXACT)
    gate.check(Leaking(), MODEL, KEY, 4)
    assert gate.allows(Leaking(), MODEL, KEY.model_copy(update={"steps": 30}), 4) == 4


def test_the_next_process_knows_it(tmp_path: Path) -> None:
    BatchParity(tmp_path, EXACT).check(Leaking(), MODEL, KEY, 4)
    BatchParity(tmp_path, EXACT).check(Leaking(leak=9), MODEL, KEY.model_copy(update={"width": 32}), 4)
    later = BatchParity(tmp_path, EXACT)
    assert later.allows(Leaking(), MODEL, KEY, 4) == 4
    assert later.allows(Leaking(), MODEL, KEY.model_copy(update={"width": 32}), 4) == 1


def test_a_damaged_record_is_found_out_anew(tmp_path: Path) -> None:
    BatchParity(tmp_path, EXACT).check(Leaking(), MODEL, KEY, 4)
    (path,) = tmp_path.rglob("torch-eager.json")
    path.write_text('{"proven": "many"}')
    assert BatchParity(tmp_path, EXACT).allows(Leaking(), MODEL, KEY, 4) is None


def test_a_check_that_fails_renders_alone_for_now(tmp_path: Path) -> None:
    gate, broken = BatchParity(tmp_path, EXACT), Leaking(breaks_at=4)
    assert gate.check(broken, MODEL, KEY, 4) == 1
    assert gate.allows(broken, MODEL, KEY, 4) == 1
    assert BatchParity(tmp_path, EXACT).allows(broken, MODEL, KEY, 4) is None


def test_a_check_that_nobody_waits_for_any_more_stops_and_concludes_nothing(tmp_path: Path) -> None:
    gate, good, asked = BatchParity(tmp_path, EXACT), Leaking(), iter([*[True] * 5, False])
    assert gate.check(good, MODEL, KEY, 4, lambda: next(asked)) == 1
    assert good.renders == [4], "neither of the four was rendered alone"
    assert gate.allows(good, MODEL, KEY, 4) is None and list(tmp_path.iterdir()) == []
    assert gate.check(good, MODEL, KEY, 4) == 4


COMING = MODEL.model_copy(update={"version": "2", "digest": "e" * 64})


def served(tmp_path: Path, *asked: tuple[BatchKey, int]) -> BatchParity:
    """A gate that was asked for these batches of version 1."""
    gate = BatchParity(tmp_path, EXACT)
    for key, size in asked:
        if gate.allows(Leaking(), MODEL, key, size) is None:
            gate.check(Leaking(), MODEL, key, size)
    return gate


def test_a_coming_version_is_tried_in_the_batches_that_the_others_render_in(tmp_path: Path) -> None:
    other = KEY.model_copy(update={"width": 32, "guided": False})
    gate, coming = served(tmp_path, (KEY, 2), (KEY, 4), (KEY, 3), (other, 2)), Leaking()
    gate.rehearse(coming, COMING)
    assert coming.renders == [2, 1, 1, 4, 1, 1, 1, 1], "the shape asked for last first, and each in its largest batch only"
    assert (gate.allows(coming, COMING, KEY, 4), gate.allows(coming, COMING, other, 2)) == (4, 2)
    gate.rehearse(coming, COMING)
    assert len(coming.renders) == 8, "it is known by now"


def test_what_another_model_renders_is_no_matter(tmp_path: Path) -> None:
    gate, coming = served(tmp_path, (KEY, 4)), Leaking()
    gate.rehearse(coming, COMING.model_copy(update={"name": "photo"}))
    assert coming.renders == []


def test_where_the_largest_batch_of_a_coming_version_differs_smaller_ones_are_tried(tmp_path: Path) -> None:
    gate, coming = served(tmp_path, (KEY, 2), (KEY, 3), (KEY, 4)), Leaking(leak=1)
    gate.rehearse(coming, COMING)
    assert coming.renders == [4, 1, 1, 1, 1, 3, 1, 1, 1, 2, 1, 1]
    assert gate.allows(coming, COMING, KEY, 4) == 1
    good = Leaking()
    gate.rehearse(good, COMING)
    assert good.renders == [], "what was seen to differ is not tried again"


def test_a_rehearsal_ends_when_the_version_is_waited_for(tmp_path: Path) -> None:
    gate, coming, asked = served(tmp_path, (KEY, 4)), Leaking(), iter([True, True, False])
    gate.rehearse(coming, COMING, lambda: next(asked))
    assert coming.renders == [] and gate.allows(coming, COMING, KEY, 4) is None


def test_a_rehearsal_that_fails_concludes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = KEY.model_copy(update={"width": 32})
    gate, tight = served(tmp_path, (other, 2), (KEY, 4)), Leaking(breaks_at=4)
    with caplog.at_level(logging.WARNING):
        gate.rehearse(tight, COMING)
    assert "emoji/2 at 16x16 is not compared ahead: no room" in caplog.text
    assert gate.allows(tight, COMING, KEY, 4) is None and gate.allows(tight, COMING, other, 2) == 2


def test_only_so_many_shapes_are_rehearsed(tmp_path: Path) -> None:
    keys = [KEY.model_copy(update={"width": 16 + 8 * number}) for number in range(MAX_SHAPES + 1)]
    gate, coming = served(tmp_path, *((key, 2) for key in keys)), Leaking()
    gate.rehearse(coming, COMING)
    assert [gate.allows(coming, COMING, key, 2) for key in keys] == [None, *[2] * MAX_SHAPES]


def test_a_disk_that_keeps_nothing_costs_the_memory_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    gate = BatchParity(blocked, EXACT)
    assert gate.check(Leaking(), MODEL, KEY, 2) == 2
    assert gate.allows(Leaking(), MODEL, KEY, 2) == 2


def test_the_images_of_a_check_are_what_they_are_said_to_be() -> None:
    (image,) = Leaking().decode(([1], 4))
    assert np.asarray(image).max() == 101
