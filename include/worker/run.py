"""The worker as a program."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

from include.config import Settings
from include.worker.service import Worker, WorkerOptions


class DeviceError(ValueError):
    """The device asked for is not there."""


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends at once. Raises :class:`DeviceError`. Call it in the main thread."""
    prepare_device(options.device, options.threads)
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    Worker(settings, options).run(stop)


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
