"""How the device is, as its driver measures it: NVML for NVIDIA GPUs, nothing for a CPU."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DeviceReading:
    """None: not known."""

    gpu_utilisation: float | None = None  #: share of the driver's last sampling interval in which a kernel ran
    temperature_c: float | None = None


class DeviceHealth(Protocol):
    def read(self) -> DeviceReading:
        """What holds now. Never raises: a heartbeat goes out without it too."""


class NoHealth:
    """Of a device that nothing is measured of."""

    def read(self) -> DeviceReading:
        return DeviceReading()


class NvmlHealth:
    """Of one GPU.

    :param nvml: the module ``pynvml``, initialised
    :param handle: what it knows the GPU by
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._said: set[str] = set()

    def read(self) -> DeviceReading:
        nvml, handle = self._nvml, self._handle
        percent = self._ask("utilisation", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        return DeviceReading(
            gpu_utilisation=None if percent is None else min(1.0, percent / 100),
            temperature_c=self._ask("temperature", lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        )

    def _ask(self, what: str, call: Any) -> Any:
        """None where the driver does not tell, as it doesn't of a slice of a GPU; why is logged once."""
        try:
            return call()
        except self._nvml.NVMLError as error:
            if what not in self._said:
                log.warning("the GPU's %s is not known: %s", what, error)
            self._said.add(what)
            return None


def device_health(device: str) -> DeviceHealth:
    """Of ``cpu`` or ``cuda:N``; of nothing, with the reason in the log, where NVML can't be used."""
    if not device.startswith("cuda"):
        return NoHealth()
    try:
        import pynvml

        pynvml.nvmlInit()
        return NvmlHealth(pynvml, pynvml.nvmlDeviceGetHandleByUUID(_uuid(device)))
    except Exception as error:  # no library, no driver, no such GPU: the worker renders without the figures
        log.warning("no utilisation and temperature of %s: %s", device, error)
        return NoHealth()


def _uuid(device: str) -> bytes:
    """NVML numbers GPUs by their bus, CUDA by speed and by what CUDA_VISIBLE_DEVICES leaves over; both know the same UUID."""
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return (uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}").encode()
