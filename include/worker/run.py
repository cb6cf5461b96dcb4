"""The worker as a program."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from include.config import Settings
from include.worker.health import health_path
from include.worker.kept import try_lock
from include.worker.metrics import serve_metrics
from include.worker.service import Worker, WorkerOptions


class DeviceError(ValueError):
    """The device asked for is not there."""


class TwinError(ValueError):
    """A worker of that id runs on this machine already."""


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends at once. Call it in the main thread.

    Raises :class:`DeviceError`, :class:`TwinError` and :class:`MetricsError` before anything is asked of the broker.
    """
    with _alone(health_path(settings.home, options.worker_id).with_suffix(".lock"), options.worker_id):
        prepare_device(options.device, options.threads)
        worker = Worker(settings, options)
        with serve_metrics(options.metrics, worker.metrics()) if options.metrics else nullcontext():
            _serve(worker)


def _serve(worker: Worker) -> None:
    gc.collect()
    gc.freeze()  # torch and diffusers are half a million objects; looking through them takes a third of a second in mid-render
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        worker.run(stop)
    finally:
        gc.unfreeze()  # or extension modules would call them leaked at the end


@contextmanager
def _alone(path: Path, worker_id: str) -> Iterator[None]:
    """Two processes of one id would take each other's leases for those of an earlier incarnation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not try_lock(file.fileno()):
            file.seek(0)
            raise TwinError(f"--worker-id {worker_id}: process {file.read(20)} has that id on this machine; end it, or use another id")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def prepare_device(device: str, threads: int) -> None:
    """Import what renders now, so that the first lease does not wait for it, and check that the device is there."""
    import torch

    import models.pipelines.text_to_image  # noqa: F401

    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not (number or "0").isdecimal() or int(number or 0) >= count:
            raise DeviceError(f"device {device}: this machine has {count} CUDA devices; use cpu or cuda:N with N below that")
    elif device == "cpu":
        torch.set_num_threads(threads)
    else:
        raise DeviceError(f"device {device!r}: use cpu or cuda:N")


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
