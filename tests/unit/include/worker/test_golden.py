from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from include.worker.golden import GoldenError, golden_check
from include.worker.pipeline import Pipeline
from models.pipelines.golden import FILE, GoldenShot, read_golden, write_golden
from tests.support.tiny_pipeline import tiny_pipeline

SHOT = GoldenShot(width=16, height=16, steps=2)


@pytest.fixture
def recorded(tmp_path: Path, pipeline: Pipeline) -> Path:
    write_golden(tmp_path, pipeline, SHOT)
    return tmp_path


def test_the_version_that_was_recorded_passes(recorded: Path, pipeline: Pipeline) -> None:
    golden_check(recorded, pipeline)
    golden = read_golden(recorded)
    assert golden is not None and golden.distance(SHOT.render(pipeline)) == pytest.approx(0.0, abs=1.0)


def test_it_pauses_before_each_step_and_before_decoding(recorded: Path, pipeline: Pipeline) -> None:
    pauses: list[None] = []
    golden_check(recorded, pipeline, lambda: pauses.append(None))
    assert len(pauses) == SHOT.steps + 2


def test_other_weights_do_not(recorded: Path) -> None:
    with pytest.raises(GoldenError, match=r"seed 0, differs by [0-9.]+ of 255 .* at most 4 is allowed"):
        golden_check(recorded, tiny_pipeline(seed=1))


def test_another_backend_is_given_more_room(recorded: Path) -> None:
    golden = read_golden(recorded)
    assert golden is not None and golden.allowed("onnxruntime") > golden.allowed(golden.backend)


def test_weights_without_finite_numbers_do_not_serve_even_without_a_record(tmp_path: Path) -> None:
    broken = tiny_pipeline()
    golden_check(tmp_path, broken)
    with torch.no_grad():
        for weight in broken.network.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(GoldenError, match="blank"):
        golden_check(tmp_path, broken)


def test_a_shape_that_the_model_can_not_do_is_no_fault_of_it(tmp_path: Path) -> None:
    class Narrow:
        def encode(self, *_: object) -> None:
            return None

        def prepare(self, *_: object, **__: object) -> None:
            raise ValueError("renders 512x512 only")

    golden_check(tmp_path, Narrow())  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"steps": 0}, {"thumbnail": "00"}, {"surprise": 1}])
def test_a_record_that_is_none_refuses_the_version(recorded: Path, pipeline: Pipeline, change: dict[str, object]) -> None:
    content = json.loads((recorded / FILE).read_text())
    (recorded / FILE).write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=next(iter(change))):
        golden_check(recorded, pipeline)


def test_the_distance_of_black_from_white_is_all_of_it(recorded: Path) -> None:
    golden = read_golden(recorded)
    assert golden is not None
    black = golden.model_copy(update={"thumbnail": "00" * (3 * 16 * 16)})
    assert black.distance(Image.new("RGB", (40, 40), "white")) == 255
