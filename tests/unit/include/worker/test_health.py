from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.worker.health import HealthFile, health_path


def test_it_holds_what_was_written_last_until_it_is_removed(tmp_path: Path) -> None:
    health = HealthFile(health_path(tmp_path, "worker-3"), {"pool": "spot"})
    for state in ("serving", "draining"):
        health.write(state=state)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["worker-3.json"]
    assert json.loads(health.path.read_text()).items() >= {"pool": "spot", "state": "draining"}.items()
    health.remove()
    assert not health.path.exists()


def test_a_disk_that_takes_nothing_is_told_of_once_and_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    run.write_text("no folder")
    health = HealthFile(health_path(tmp_path, "worker-3"), {})
    for _ in range(3):
        health.write(state="serving")
    health.remove()
    assert len(caplog.records) == 1 and "worker-3.json can't be written" in caplog.text
    run.unlink()
    health.write(state="serving")
    assert json.loads(health.path.read_text())["state"] == "serving"
