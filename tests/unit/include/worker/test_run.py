from __future__ import annotations

from pathlib import Path

import pytest

from include.config import Settings
from include.worker import run
from include.worker.metrics import MetricsError
from include.worker.run import DeviceError, TwinError, prepare_device, run_worker
from include.worker.service import Worker, WorkerOptions


@pytest.mark.parametrize("device", ["tpu:1", "gpu", "", "CPU"])
def test_a_device_of_another_kind_is_refused_with_the_fix(device: str) -> None:
    with pytest.raises(DeviceError, match="use cpu or cuda:N"):
        prepare_device(device, threads=1)


@pytest.mark.parametrize("device", ["cuda:64", "cuda:x"])
def test_a_gpu_that_is_not_there_is_refused_with_the_fix(device: str) -> None:
    with pytest.raises(DeviceError, match=r"use cpu or cuda:N"):
        prepare_device(device, threads=1)


def test_a_second_process_of_an_id_is_refused_for_as_long_as_the_first_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, options = Settings(_env_file=None, home=tmp_path), WorkerOptions(pool="standard", worker_id="gpu-3")
    refused: list[str] = []

    def serve(worker: Worker) -> None:
        with pytest.raises(
            TwinError, match=r"--worker-id gpu-3: process \d+ has that id on this machine; end it, or use another id"
        ) as raised:
            run_worker(settings, options)
        refused.append(str(raised.value))

    monkeypatch.setattr(run, "_serve", serve)
    run_worker(settings, options)
    run_worker(settings, options)
    assert len(refused) == 2


def test_an_address_for_figures_that_is_none_stops_it_before_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_serve", lambda worker: pytest.fail("it serves"))
    options = WorkerOptions(pool="standard", worker_id="gpu-3", metrics="9100")
    with pytest.raises(MetricsError, match="use HOST:PORT"):
        run_worker(Settings(_env_file=None, home=tmp_path), options)
