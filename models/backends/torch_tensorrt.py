"""TensorRT engines for NVIDIA GPUs, by Torch-TensorRT, in fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backends.base import REDUCED, Availability, Backend, BackendError, Prepared, Run, installed, on_cuda
from models.backends.calls import Call
from models.backends.torch_bf16 import copy_of


class TorchTensorRt(Backend):
    name = "tensorrt"
    tolerance = REDUCED
    packages = ("torch", "torch-tensorrt")
    in_auto = False

    def availability(self, device: str) -> Availability:
        return on_cuda(device, installed("torch-tensorrt", "torch_tensorrt"))

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Engines(copy_of(denoiser))


class _Engines(Prepared):
    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        import torch_tensorrt

        options = {
            "enabled_precisions": {torch.float32, torch.float16},
            "cache_built_engines": True,
            "reuse_cached_engines": True,
            "engine_cache_dir": str(folder / "tensorrt"),
        }
        compiled = torch.compile(self.denoiser.forward, backend=torch_tensorrt.torch_compile_backend, dynamic=True, options=options)

        def run(call: Call) -> Any:
            return compiled(**call.arguments(call.tensors))

        try:
            with torch.no_grad():
                run(call)
        except Exception as error:
            raise BackendError(f"TensorRT can't build an engine for it: {error}") from error
        return run
