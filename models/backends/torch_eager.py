"""torch as it is: always there, and what every other backend is measured against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.backends.base import EXACT, Availability, Backend, Prepared, Run, installed
from models.backends.calls import Call


class TorchEager(Backend):
    name = "torch-eager"
    tolerance = EXACT
    packages = ("torch",)

    def availability(self, device: str) -> Availability:
        if device.startswith("cuda") and not torch.cuda.is_available():
            return Availability(usable=False, detail="torch sees no CUDA GPU on this machine")
        return installed("torch")

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Eager(denoiser)


class _Eager(Prepared):
    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        return lambda call: type(self.denoiser).forward(self.denoiser, **call.arguments(call.tensors))  # type: ignore[attr-defined]
