from __future__ import annotations

from pathlib import Path

import pytest

from include.worker.tuning import contenders
from include.worker.verdicts import AUTO, EAGER, Chosen, Measured, Verdict, Verdicts

MEASURED = {
    EAGER: Measured(step_s=0.4, batch_step_s=1.0),
    "onnxruntime": Measured(step_s=0.2, batch_step_s=0.9),
    "openvino": Measured(step_s=0.3, batch_step_s=0.4),
    "openvino-bf16": Measured(step_s=0.1, batch_step_s=0.2, refused="its images differ"),
    "torch-compile": Measured(refused="no compiler"),
}


def verdict(width: int = 64, **backends: Measured) -> Verdict:
    return Verdict(width=width, height=64, batch=4, signature=f"s{width}", backends=backends or MEASURED)


def test_auto_takes_the_fastest_whose_images_are_right() -> None:
    assert verdict().choose(AUTO) == "openvino"


def test_auto_stays_eager_where_nothing_is_faster() -> None:
    assert verdict(**{EAGER: Measured(step_s=0.1, batch_step_s=0.1), "openvino": MEASURED["openvino"]}).choose(AUTO) == EAGER
    assert verdict(openvino=Measured(refused="broken")).choose(AUTO) == EAGER


@pytest.mark.parametrize(
    ("wanted", "chosen"), [("onnxruntime", "onnxruntime"), ("openvino-bf16", EAGER), ("torch-compile", EAGER), ("tensorrt", EAGER)]
)
def test_a_named_backend_is_taken_only_where_it_was_found_right(wanted: str, chosen: str) -> None:
    assert verdict().choose(wanted) == chosen


def test_what_is_written_is_read_again_and_added_to(tmp_path: Path) -> None:
    kept = Verdicts(tmp_path)
    assert not kept.read()
    kept.write(verdict(openvino=MEASURED["openvino"]))
    kept.write(verdict(onnxruntime=MEASURED["onnxruntime"]))
    kept.write(verdict(width=128))
    assert {found.width: set(found.backends) for found in kept.read()} == {64: {"openvino", "onnxruntime"}, 128: set(MEASURED)}
    assert kept.has(64, 64, "openvino") and kept.has(64, 64, AUTO)
    assert not kept.has(64, 64, "tensorrt") and not kept.has(32, 64, AUTO)


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    kept = Verdicts(tmp_path)
    kept.write(verdict())
    (tmp_path / "64x64.json").write_text('{"width": 64}')
    assert not kept.read()
    assert not kept.has(64, 64, AUTO)


def test_the_choice_is_by_size_and_by_signature_and_eager_for_the_rest() -> None:
    chosen = Chosen([verdict(), verdict(width=128, onnxruntime=MEASURED["onnxruntime"])], AUTO)
    assert (chosen.for_size(64, 64), chosen.for_size(128, 64), chosen.for_size(64, 128)) == ("openvino", "onnxruntime", EAGER)
    assert (chosen.for_signature("s128"), chosen.for_signature("s1")) == ("onnxruntime", EAGER)


def test_the_least_times_count_and_a_slow_moment_does_not() -> None:
    measured = Measured().timed(step_s=0.4, batch_step_s=1.0).timed(step_s=0.3, batch_step_s=2.0)
    assert (measured.step_s, measured.batch_step_s) == (0.3, 1.0)


def test_who_is_right_and_close_to_the_fastest_is_timed_again() -> None:
    assert contenders(MEASURED) == ["openvino", "onnxruntime"]
    assert contenders({EAGER: MEASURED[EAGER]}) == [EAGER]
