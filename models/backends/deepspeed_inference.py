"""DeepSpeed inference: a denoiser that one GPU can't hold is split over those that the process group has."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.backends.base import REDUCED, Availability, Backend, BackendError, Prepared, Run, installed, on_cuda
from models.backends.calls import Call
from models.backends.torch_bf16 import copy_of


class DeepSpeed(Backend):
    name = "deepspeed"
    tolerance = REDUCED
    packages = ("torch", "deepspeed")
    in_auto = False

    def availability(self, device: str) -> Availability:
        return on_cuda(device, installed("deepspeed"))

    def prepare(self, denoiser: nn.Module) -> Prepared:
        import deepspeed

        try:
            ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
            engine = deepspeed.init_inference(copy_of(denoiser), tensor_parallel={"tp_size": ranks}, dtype=torch.float16)
        except Exception as error:
            raise BackendError(f"DeepSpeed can't take it: {error}") from error
        return _Engine(engine)


class _Engine(Prepared):
    def __init__(self, engine: nn.Module) -> None:
        self.engine = engine

    def open(self, call: Call, folder: Path) -> Run:
        return lambda call: self.engine(**call.arguments([_halved(tensor) for tensor in call.tensors]))


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.dtype == torch.float32 else tensor
