"""The measuring process beside the worker: the real one on a tiny model, and stand-ins for the ways in which it can end."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.worker.backends import Tuning
from include.worker.tuner import LOCK, MAX_KEPT, Tuner, forget_old
from include.worker.verdicts import EAGER, Measured, Verdict, Verdicts
from tests.support.tiny_pipeline import SIDE, write_tiny_pipeline
from tests.support.waiting import wait_for

FAST = "torchao-int8"


class Harness(Tuner):
    """Runs in a thread of its own; :attr:`command` instead of the measuring program, if it is set."""

    def __init__(self) -> None:
        super().__init__(wanted=FAST, device="cpu", threads=1, on_tuned=lambda digest: self.tuned.append(digest))
        self.tuned: list[str] = []
        self.command: list[str] | None = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(self.stop,))

    def _command(self, tuning: Tuning) -> list[str]:
        return self.command or super()._command(tuning)


@pytest.fixture
def tuner() -> Iterator[Harness]:
    harness = Harness()
    harness.thread.start()
    yield harness
    harness.stop.set()
    harness.thread.join(20)
    assert not harness.thread.is_alive()


def tuning(folder: Path, directory: Path | None = None, digest: str = "d" * 64) -> Tuning:
    return Tuning(directory=directory or folder, folder=folder / digest, digest=digest, width=SIDE, height=SIDE)


def test_a_model_is_measured_in_a_process_of_its_own(tuner: Harness, tmp_path: Path) -> None:
    wanted = tuning(tmp_path / "kept", write_tiny_pipeline(tmp_path / "model"))
    tuner.want(wanted)
    wait_for(lambda: tuner.tuned, timeout=240)
    (verdict,) = Verdicts(wanted.folder).read()
    assert set(verdict.backends) == {EAGER, FAST}
    assert verdict.choose(FAST) == FAST


def test_a_measurement_that_fails_is_logged_and_not_tried_again(tuner: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuner.command = [sys.executable, "-c", "raise SystemExit('no such file')"]
    tuner.want(tuning(tmp_path))
    wait_for(lambda: "torch-eager stays: no such file" in caplog.text)
    tuner.command = [sys.executable, "-c", "pass"]
    tuner.want(tuning(tmp_path))
    tuner.want(tuning(tmp_path, digest="e" * 64))
    wait_for(lambda: tuner.tuned)
    assert tuner.tuned == ["e" * 64]


def test_a_disk_that_takes_nothing_costs_the_measurement_only(tuner: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "full").write_text("no folder")
    tuner.want(tuning(tmp_path / "full"))
    wait_for(lambda: "are not measured, torch-eager stays" in caplog.text, timeout=20)
    tuner.command = [sys.executable, "-c", "pass"]
    tuner.want(tuning(tmp_path / "kept", digest="e" * 64))
    wait_for(lambda: tuner.tuned, timeout=60)


def test_a_measurement_ends_with_the_worker(tuner: Harness, tmp_path: Path) -> None:
    tuner.command = [sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w'); import sys; sys.stdin.read()"]
    tuner.want(tuning(tmp_path))
    wait_for((tmp_path / "begun").exists)
    tuner.stop.set()
    tuner.thread.join(20)
    assert not tuner.thread.is_alive()
    assert not tuner.tuned


def test_workers_of_one_machine_measure_a_model_once(tuner: Harness, tmp_path: Path) -> None:
    wanted = tuning(tmp_path)
    tuner.command = [sys.executable, "-c", "raise SystemExit('measured twice')"]
    wanted.folder.mkdir()
    with (wanted.folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tuner.want(wanted)
        Verdicts(wanted.folder).write(
            Verdict(width=SIDE, height=SIDE, batch=4, signature="s", backends={FAST: Measured(step_s=1, batch_step_s=1)})
        )
    wait_for(lambda: tuner.tuned)
    assert tuner.tuned == [wanted.digest]


def test_findings_of_the_oldest_models_are_forgotten(tmp_path: Path) -> None:
    for age in range(MAX_KEPT + 2):
        (tmp_path / f"model-{age}").mkdir()
        (tmp_path / f"model-{age}" / LOCK).touch()
        os.utime(tmp_path / f"model-{age}", (1e9 - age, 1e9 - age))
    (tmp_path / "inductor").mkdir()
    forget_old(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"inductor", *(f"model-{age}" for age in range(MAX_KEPT))}
