from __future__ import annotations

import logging
from typing import Any

import pynvml
import pytest
import torch

from include.worker.device_health import DeviceReading, NoHealth, NvmlHealth, device_health

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_nothing_is_measured_of_a_cpu() -> None:
    assert device_health("cpu").read() == DeviceReading()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_driver_the_worker_goes_on_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(device_health("cuda:0"), NoHealth)
    assert "no utilisation and temperature of cuda:0" in caplog.text


class HalfDriver:
    """Tells the temperature only, as a driver does of a slice of a GPU."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return 61


def test_what_the_driver_does_not_tell_is_left_out_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    health = NvmlHealth(HalfDriver(), "handle")
    with caplog.at_level(logging.WARNING):
        readings = [health.read() for _ in range(3)]
    assert readings == [DeviceReading(temperature_c=61.0)] * 3
    assert caplog.text.count("utilisation is not known") == 1


@needs_gpu
def test_a_gpu_tells_utilisation_and_temperature() -> None:
    reading = device_health("cuda:0").read()
    assert reading.gpu_utilisation is not None and 0 <= reading.gpu_utilisation <= 1
    assert reading.temperature_c is not None and 0 < reading.temperature_c < 120
