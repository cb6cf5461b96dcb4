"""Linear layers with int8 weights, by torchao: activations are quantized as they come."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from models.backends.base import REDUCED, Availability, Backend, BackendError, Prepared, Run, installed
from models.backends.calls import Call
from models.backends.torch_bf16 import copy_of

LEAST_FEATURES = 64  #: a smaller layer gains nothing and loses precision


class TorchaoInt8(Backend):
    name = "torchao-int8"
    tolerance = REDUCED
    packages = ("torch", "torchao")

    def availability(self, device: str) -> Availability:
        return installed("torchao")

    def prepare(self, denoiser: nn.Module) -> Prepared:
        try:
            return _Quantized(_quantized(copy_of(denoiser)))
        except Exception as error:  # torchao raises many kinds for layers that it does not know
            raise BackendError(f"torchao can't quantize it: {error}") from error


class _Quantized(Prepared):
    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        return lambda call: self.denoiser(**call.arguments(call.tensors))


def _quantized(denoiser: nn.Module) -> nn.Module:
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of each extension that it finds no use for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        with torch.no_grad():
            quantize_(denoiser, Int8DynamicActivationInt8WeightConfig(version=2), filter_fn=_is_large)
    return denoiser


def _is_large(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and min(module.in_features, module.out_features) >= LEAST_FEATURES
