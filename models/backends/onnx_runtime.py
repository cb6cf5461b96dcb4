"""ONNX Runtime on the CPU, in fp32 or with weights and activations in int8."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backends.base import EXACT, REDUCED, Availability, Backend, BackendError, Prepared, Run, installed, on_cpu
from models.backends.calls import Call
from models.backends.onnx_graph import graph_of, layout_of, run_of

QUANTIZED = "int8.onnx"


class OnnxRuntime(Backend):
    name = "onnxruntime"
    tolerance = EXACT
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")

    def availability(self, device: str) -> Availability:
        found = [installed(package) for package in self.packages]
        missing = [each for each in found if not each.usable]
        return on_cpu(device, missing[0] if missing else found[-1])

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Sessions(denoiser, quantized=False)


class OnnxRuntimeInt8(OnnxRuntime):
    """Weights quantized by output channel, activations as they come (ONNX Runtime's dynamic quantization)."""

    name = "onnxruntime-int8"
    tolerance = REDUCED

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Sessions(denoiser, quantized=True)


class _Sessions(Prepared):
    def __init__(self, denoiser: nn.Module, *, quantized: bool) -> None:
        self.denoiser = denoiser
        self.quantized = quantized

    def open(self, call: Call, folder: Path) -> Run:
        import onnxruntime

        graph = graph_of(self.denoiser, call, folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(_quantized(graph) if self.quantized else graph), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]

        def infer(tensors: Sequence[Tensor]) -> Tensor:
            return torch.from_numpy(session.run(None, dict(zip(names, map(_array, tensors), strict=True)))[0])

        return run_of(layout_of(graph), infer)


def _array(tensor: Tensor) -> object:
    return tensor.detach().contiguous().numpy()


def _quantized(graph: Path) -> Path:
    """The int8 form beside the graph, made now unless it is there."""
    place = graph.parent / QUANTIZED
    if place.is_file():
        return place
    part = place.with_name(f".{os.getpid()}-{QUANTIZED}")
    logging.disable(logging.WARNING)  # it tells the root logger of every tensor
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(str(graph), str(part), per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    except Exception as error:  # the quantizer raises many kinds for graphs that it does not know
        raise BackendError(f"ONNX Runtime can't quantize it: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    os.replace(part, place)
    return place
