"""Linear layers with int8 weights, by torchao: activations are quantized as they come."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
            return _Quantized(quantized(copy_of(denoiser), dynamic_int8()))
        except Exception as error:  # torchao raises many kinds for layers that it does not know
            raise BackendError(f"torchao can't quantize it: {error}") from error


class _Quantized(Prepared):
    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        return lambda call: self.denoiser(**call.arguments(call.tensors))


def dynamic_int8() -> Any:
    """torchao's settings of this backend."""
    with _quiet():
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig

        return Int8DynamicActivationInt8WeightConfig(version=2)


def quantized(denoiser: nn.Module, config: Any) -> nn.Module:
    """The denoiser itself, its large linear layers quantized in place by ``config``, one of torchao's."""
    with _quiet(), torch.no_grad():
        from torchao.quantization import quantize_

        quantize_(denoiser, config, filter_fn=is_large)
    return denoiser


def is_large(module: nn.Module, name: str) -> bool:
    """Whether quantizing the module is worth it."""
    return isinstance(module, nn.Linear) and min(module.in_features, module.out_features) >= LEAST_FEATURES


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torchao's warnings of each extension that it finds no use for."""
    logging.getLogger("torchao").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
