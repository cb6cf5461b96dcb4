from __future__ import annotations

import dataclasses
from pathlib import Path

import httpx
import pytest

from include.config import Settings
from include.worker.metrics import MEDIA_TYPE, METRICS, MetricsError, exposition, serve_metrics
from include.worker.service import Worker, WorkerOptions


def test_each_figure_has_its_words_its_kind_and_its_labels() -> None:
    assert exposition({"model_hits_total": 3, "model_bytes": 30_400_000.0}, {"worker_id": "w-0", "pool": "spot"}).splitlines() == [
        "# HELP atelier_worker_model_bytes Bytes of their weights.",
        "# TYPE atelier_worker_model_bytes gauge",
        'atelier_worker_model_bytes{worker_id="w-0",pool="spot"} 30400000',
        "# HELP atelier_worker_model_hits_total Leases whose version was loaded already.",
        "# TYPE atelier_worker_model_hits_total counter",
        'atelier_worker_model_hits_total{worker_id="w-0",pool="spot"} 3',
    ]


def test_a_worker_tells_every_figure(tmp_path: Path) -> None:
    worker = Worker(Settings(_env_file=None, home=tmp_path), WorkerOptions(pool="standard", worker_id="w-0"))
    assert worker.figures().keys() == {metric.name for metric in METRICS}
    worker.cache.figures = dataclasses.replace(worker.cache.figures, hits=7)
    assert 'atelier_worker_model_hits_total{worker_id="w-0",pool="standard",device="cpu"} 7' in worker.metrics().splitlines()


def test_they_are_given_out_as_they_are_when_asked_for() -> None:
    counted = iter(range(10))
    with serve_metrics("127.0.0.1:0", lambda: f"asked {next(counted)}\n") as address:
        answers = [httpx.get(address) for _ in range(2)]
        assert [answer.text for answer in answers] == ["asked 0\n", "asked 1\n"]
        assert answers[0].headers["Content-Type"] == MEDIA_TYPE
        assert httpx.get(address.replace("/metrics", "/other")).status_code == 404


@pytest.mark.parametrize("address", ["9100", ":9100", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "192.0.2.1:9100"])
def test_an_address_that_can_not_be_listened_at_is_named_with_the_fix(address: str) -> None:
    with (
        pytest.raises(MetricsError, match=rf"--metrics '?{address}.*; use another port|--metrics '{address}': use HOST:PORT"),
        serve_metrics(address, str),
    ):
        pass
