from __future__ import annotations

import dataclasses
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from include.config import Settings
from include.worker.metrics import METRICS, Figures, MetricsError, serve_metrics
from include.worker.service import Worker, WorkerOptions


def asked(address: str) -> dict[str, float]:
    """By name and labels, as Prometheus reads the answer."""
    families = text_string_to_metric_families(httpx.get(address).raise_for_status().text)
    return {f"{sample.name} {sorted(sample.labels.items())}": sample.value for family in families for sample in family.samples}


def test_a_worker_tells_every_figure(tmp_path: Path) -> None:
    worker = Worker(Settings(_env_file=None, home=tmp_path), WorkerOptions(pool="standard", worker_id="w-0"))
    assert worker.figures().keys() == METRICS.keys()
    worker.cache.figures = dataclasses.replace(worker.cache.figures, hits=7)
    labels = [("device", "cpu"), ("pool", "standard"), ("worker_id", "w-0")]
    with serve_metrics("127.0.0.1:0", worker.metrics()) as address:
        found = asked(address)
    assert found.keys() == {f"atelier_worker_{name} {labels}" for name in METRICS}
    assert found[f"atelier_worker_model_hits_total {labels}"] == 7


def test_they_are_read_when_asked_for() -> None:
    counted = iter(range(10))
    with serve_metrics("127.0.0.1:0", Figures(lambda: {"leases_held": next(counted)}, {})) as address:
        assert [list(asked(address).values()) for _ in range(2)] == [[0], [1]]


@pytest.mark.parametrize("address", ["9100", ":9100", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "192.0.2.1:9100"])
def test_an_address_that_can_not_be_listened_at_is_named_with_the_fix(address: str) -> None:
    with (
        pytest.raises(MetricsError, match=rf"--metrics '?{address}.*; use another port|--metrics '{address}': use HOST:PORT"),
        serve_metrics(address, Figures(dict, {})),
    ):
        pass
