"""The demo in small: everything that `make demo` does, on free ports and in a home of its own.

From no state at all: services come up, a dataset is prepared, a model trained, measured and promoted through Airflow, requests of every
kind are sent and judged, a second version goes live and is taken back, a burst is stood, page and report are written.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.client.policy import current_policy
from include.config import Settings
from include.contracts.defaults import default_policy
from include.gateway.keys import demo_keys
from tests.support.stack import atelier


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.mark.timeout(1200)
def test_the_demo_in_small(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = demo
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    report = report_of(out)
    assert report["ok"] and report["faults"] == []
    assert report["requests"]["as_expected"] == report["requests"]["total"] == 30
    assert all(entry["state"] == "Completed" for entry in report["good"])
    assert all(entry["ok"] for entry in report["bad"]) and len(report["bad"]) == 20
    assert all(step["ok"] for step in report["steps"])


@pytest.mark.timeout(1200)
def test_the_rollback_is_measured_and_loses_nothing(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    rollback = report_of(demo[1])["rollback"]
    assert (rollback["from_version"], rollback["to_version"], rollback["failed"]) == ("2", "1", 0)
    assert 0 < rollback["seconds"] < 30


@pytest.mark.timeout(1200)
def test_the_burst_is_over_and_told(settings: Settings, demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    burst = report_of(demo[1])["burst"]
    assert burst["capacity"]["offered_times"] == pytest.approx(5, abs=0.5)
    refused = sum(row["count"] for row in burst["refused"].values())
    assert burst["completed"] == burst["admitted"] == burst["offered"] - refused
    assert refused and burst["degraded"]["count"] and burst["deferred"]["count"]
    assert burst["high_lane"]["burst_p90_s"] <= burst["high_lane"]["bound_p90_s"]
    policy = current_policy(settings)
    assert policy is not None and policy.lane_bound_s == default_policy().lane_bound_s, "the policy of before holds again"


@pytest.mark.timeout(1200)
def test_the_page_explains_requests_of_the_burst(demo: tuple[subprocess.CompletedProcess[str], Path], settings: Settings) -> None:
    page = (demo[1] / "index.html").read_text()
    names = re.findall(r"atelier why ([\w.-]+burst[\w.-]+)", page)
    assert len(names) >= 4
    told = atelier(settings, "why", names[0], timeout_s=60)
    assert told.returncode == 0 and "Completed" in told.stdout, told.stdout + told.stderr


@pytest.mark.timeout(1200)
def test_the_page_shows_every_image(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, out = demo
    page = (out / "index.html").read_text()
    images = [image for entry in report_of(out)["good"] for image in entry["images"]]
    assert images
    for image in images:
        assert (out / image).is_file() and image in page


@pytest.mark.timeout(1200)
def test_everything_is_left_up_and_says_where_it_is(settings: Settings, demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    key = demo_keys(settings.home)["acme"]
    for text in (settings.airflow, settings.mlflow, settings.flink, settings.gateway, key):
        assert text in demo[0].stdout
    models = httpx.get(f"{settings.gateway}/v1/models", headers={"Authorization": f"Bearer {key}"}).json()["models"]
    assert [(model["name"], model["version"]) for model in models] == [("emoji", "1")]
    status = atelier(settings, "status", "--json", timeout_s=60)
    assert status.returncode == 0, status.stdout
