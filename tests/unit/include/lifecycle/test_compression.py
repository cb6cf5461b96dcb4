"""Verdicts of a sweep, its report, and the task that waits for a variant."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from include.contracts.control import ModelDefaults
from include.lifecycle import compression, jobs
from include.lifecycle.compression import await_row, check_room, measuring_network
from include.lifecycle.compression_chart import ParetoChart, ticks
from include.lifecycle.compression_report import write_report
from include.lifecycle.compression_verdicts import (
    CompressionPolicy,
    Judged,
    NothingToCompareError,
    Status,
    judge_sweep,
    offered,
    pareto_front,
)
from include.lifecycle.versions import FACTS_TAG
from models.compression.plan import Figures, Measurement, Original, Row, State, SweepPlan
from models.compression.sweep import write_row
from models.training.contrastive import EVALUATOR

MakeRow = Callable[..., Row]
DRAW = np.random.default_rng(0)
REAL = DRAW.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
IMAGES = np.clip(REAL.astype(int) + DRAW.normal(0, 40, REAL.shape), 0, 255).astype(np.uint8)
NOISE = DRAW.integers(0, 256, REAL.shape, dtype=np.uint8) * np.array([1, 0, 0], np.uint8)  # red, which nothing real is


def shifted(by: int) -> np.ndarray:
    return np.clip(IMAGES.astype(int) + by, 0, 255).astype(np.uint8)


@pytest.fixture
def row(tmp_path: Path) -> MakeRow:
    def make(variant: str, images: np.ndarray = IMAGES, *, ms: float = 100, mb: float = 10, busy: float = 0) -> Row:
        path = tmp_path / f"{variant}.npy"
        np.save(path, images)
        figures = Figures(
            network_mb=mb,
            directory_mb=50,
            load_s=1,
            memory_mb=500,
            p50_s=ms / 1000,
            p95_s=ms / 900,
            busy_pct=busy,
            steps=12,
            guidance=3,
            backend="torch-eager",
        )
        return Row(variant=variant, state=State.MEASURED, figures=figures, images=path, built=tmp_path)

    return make


class CellColours:
    """The mean colour of each of 16 cells, as rows of length √d."""

    name = "cell-colours"

    def features(self, images: np.ndarray) -> np.ndarray:
        cells = images.astype(float).reshape(len(images), 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)
        return np.asarray(cells * (cells.shape[1] ** 0.5 / np.linalg.norm(cells, axis=1, keepdims=True)))


NETWORK = CellColours()


def judged(rows: list[Row], **policy: float) -> dict[str, Judged]:
    return {each.variant: each for each in judge_sweep(rows, REAL, CompressionPolicy(**policy), NETWORK)}


def test_the_faster_or_smaller_is_offered(row: MakeRow) -> None:
    found = judged([row("fp32"), row("bf16", shifted(1), ms=70, mb=5), row("onnx", ms=80), row("int8", ms=104, mb=3)])
    assert found["fp32"].status is Status.ORIGINAL
    assert found["bf16"].verdict == "offered: 30 % less time, network 50 % smaller"
    assert found["onnx"].verdict == "offered: 20 % less time"
    assert found["int8"].verdict == "offered: 4 % more time, network 70 % smaller"
    assert [each.variant for each in offered(list(found.values()))] == ["bf16", "onnx", "int8"]


def test_smaller_but_slower_is_not_offered(row: MakeRow) -> None:
    found = judged([row("fp32"), row("int4", ms=130, mb=2), row("onnx", ms=130), row("openvino", ms=101)])
    assert found["int4"].verdict == "smaller but slower (+30 % > 5 %)"
    assert found["onnx"].verdict == "slower (+30 % > 5 %)"
    assert found["openvino"].status is Status.NO_GAIN


def test_worse_than_allowed_says_in_what_and_by_how_much(row: MakeRow) -> None:
    found = judged([row("fp32"), row("int8", shifted(20), ms=50), row("pruned-50", NOISE, ms=50), row("pruned-25", shifted(1), ms=50)])
    assert found["int8"].status is Status.WORSE
    assert "% > " in found["int8"].verdict
    assert found["pruned-50"].verdict.startswith("worse than allowed (kernel distance +")
    assert found["pruned-25"].status is Status.OFFERED


def test_a_distance_that_can_not_be_told_from_zero_grows_by_no_absurd_share(row: MakeRow) -> None:
    near = np.clip(REAL.astype(int) + DRAW.normal(0, 4, REAL.shape), 0, 255).astype(np.uint8)
    nearer = np.clip(REAL.astype(int) + DRAW.normal(0, 8, REAL.shape), 0, 255).astype(np.uint8)
    found = judged([row("fp32", near), row("bf16", nearer, ms=50)], images_differ_pct=100)
    quality = found["bf16"].quality
    assert quality is not None and found["fp32"].quality is not None
    assert abs(quality.kernel_distance / found["fp32"].quality.kernel_distance - 1) > 2
    assert abs(quality.worse_pct) < 100
    assert found["bf16"].status is Status.OFFERED


def test_variants_are_compared_by_what_the_version_was_evaluated_with(tmp_path: Path) -> None:
    shutil.copytree(EVALUATOR, tmp_path / "other")
    said: list[str] = []

    def evaluated_with(directory: Path) -> dict[str, str]:
        return {FACTS_TAG: json.dumps({"config": {"network": str(directory)}})}

    assert measuring_network({}, said.append).name.startswith("two-tower-")
    assert measuring_network(evaluated_with(tmp_path / "other"), said.append).name.startswith("two-tower-")
    assert not said
    assert measuring_network(evaluated_with(tmp_path / "gone"), said.append).name.startswith("two-tower-")
    assert "gone holds neither a two-tower network" in said[0]


def test_other_weights_may_draw_other_images_the_same_weights_may_not(row: MakeRow) -> None:
    rows = [row("fp32"), row("int8", shifted(8), ms=50), row("distilled", shifted(8), ms=50)]
    found = judged(rows, quality_worse_pct=1000)
    assert found["int8"].verdict == "worse than allowed (its images differ by 2.9 % > 2 %)"
    assert found["distilled"].status is Status.OFFERED


def test_what_was_not_measured_keeps_its_reason(row: MakeRow) -> None:
    rows = [
        row("fp32"),
        Row(variant="tensorrt", state=State.NOT_AVAILABLE, why="needs a CUDA GPU"),
        Row(variant="onnx", state=State.FAILED, why="it was ended by SIGKILL"),
    ]
    found = judged(rows)
    assert (found["tensorrt"].verdict, found["onnx"].verdict) == ("not available: needs a CUDA GPU", "failed: it was ended by SIGKILL")


def test_times_of_a_busy_machine_are_marked(row: MakeRow) -> None:
    found = judged([row("fp32"), row("bf16", ms=50, busy=60), row("onnx", ms=50)])
    assert found["bf16"].verdict.endswith("; timed on a busy machine")
    assert "busy" not in found["onnx"].verdict


def test_without_the_original_there_is_nothing_to_compare(row: MakeRow) -> None:
    with pytest.raises(NothingToCompareError, match="fp32 was not measured: out of memory"):
        judged([Row(variant="fp32", state=State.FAILED, why="out of memory"), row("bf16")])


def test_the_front_has_what_nothing_else_beats(row: MakeRow) -> None:
    found = judged([row("fp32"), row("bf16", shifted(1), ms=50), row("int8", NOISE, ms=40), row("int4", NOISE, ms=60)])
    front = [each.variant for each in pareto_front(list(found.values()))]
    assert front[0] == "int8"
    assert "int4" not in front


@pytest.fixture
def plan(tmp_path: Path) -> SweepPlan:
    prompts = tuple(f"<prompt {number}>" for number in range(16))
    measurement = Measurement(width=16, height=16, images=16, batch=4, repeats=2, prompts=prompts, machine="here")
    defaults = ModelDefaults(width=16, height=16, steps=12, guidance=3.0)
    original = Original(directory=tmp_path, digest="a" * 64, label="emoji/3", defaults=defaults)
    (tmp_path / "sweep").mkdir()
    return SweepPlan(
        directory=tmp_path / "sweep", home=tmp_path / "home", original=original, variants=("fp32", "bf16"), measurement=measurement
    )


def test_the_report_is_a_table_a_plot_and_a_page_that_needs_nothing_else(row: MakeRow, plan: SweepPlan) -> None:
    rows = [row("fp32"), row("bf16", shifted(1), ms=70), Row(variant="tensorrt", state=State.NOT_AVAILABLE, why="<needs> a GPU")]
    policy = CompressionPolicy()
    files = write_report(plan, rows, judge_sweep(rows, REAL, policy, NETWORK), policy, NETWORK.name)
    table = json.loads(files.table.read_text())
    assert table["features"] == "cell-colours"
    assert [each["variant"] for each in table["variants"]] == ["fp32", "bf16", "tensorrt"]
    assert table["variants"][1]["quality"]["differ_pct"] > 0
    assert files.plot.read_bytes().startswith(b"\x89PNG")
    page = files.page.read_text()
    assert "offered: 30 % less time" in page
    assert "&lt;needs&gt; a GPU" in page and "&lt;prompt 0&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and 'src="data:image/png;base64,' in page


def test_what_is_far_away_is_drawn_at_the_edge_with_its_value(row: MakeRow) -> None:
    policy = CompressionPolicy()
    rows = [row("fp32"), row("bf16", shifted(1), ms=70), row("pruned-50", NOISE, ms=2000)]
    chart = ParetoChart.of(judge_sweep(rows, REAL, policy, NETWORK), policy)
    far = next(bubble for bubble in chart.bubbles if bubble.variant == "pruned-50")
    assert "2000 ms" in far.label
    assert 0 < chart.px(far.x) < 760 and 0 < chart.py(far.y) < 420
    places = [(label.x, label.y) for label in chart.labels]
    assert len(set(places)) == 3


def test_ticks_are_round() -> None:
    assert ticks(0, 300) == [0, 50, 100, 150, 200, 250, 300]
    assert ticks(-7, 24) == [0, 10, 20]


def test_a_task_joins_what_is_known_already(plan: SweepPlan) -> None:
    write_row(plan, Row(variant="bf16", state=State.FAILED, why="no room"))
    lines: list[str] = []
    assert await_row(plan, "bf16", {}, lines.append).why == "no room"
    assert lines == ["bf16: failed: no room"]
    assert jobs.state(plan.directory) is jobs.JobState.ABSENT


def test_a_sweep_that_ends_without_the_row_fails_the_task_with_its_log(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print('the disk, or the quota, is full'); raise SystemExit(28)"]
    monkeypatch.setattr(SweepPlan, "command", lambda self: command)
    with pytest.raises(jobs.JobFailedError, match="the disk, or the quota, is full"):
        await_row(plan, "bf16", compression.job_environment(), lambda line: None)


def test_a_sweep_that_was_killed_is_started_again(plan: SweepPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(variant="bf16", state=State.NOT_AVAILABLE, why="no arithmetic").model_dump_json()
    code = f"""
import os, pathlib, signal
place = pathlib.Path({str(plan.row_path("bf16"))!r})
if not place.parent.exists():
    place.parent.mkdir()
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
place.write_text({row!r})
"""
    monkeypatch.setattr(SweepPlan, "command", lambda self: [sys.executable, "-c", code])
    assert await_row(plan, "bf16", compression.job_environment(), lambda line: None).why == "no arithmetic"


def test_a_disk_without_room_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "weights.safetensors").write_bytes(bytes(1000))
    check_room(tmp_path / "home", tmp_path / "version")
    monkeypatch.setattr(compression, "ROOM", 1e15)
    with pytest.raises(OSError, match="make room"):
        check_room(tmp_path / "home", tmp_path / "version")
