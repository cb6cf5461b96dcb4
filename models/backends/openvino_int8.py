"""OpenVINO on the CPU with the weights of matrix products in int8, and activations quantized as they come.

Weights have one scale for each output channel, activations one for each :data:`GROUP` values, which OpenVINO finds as it runs
("dynamic quantization"). Everything else stays in fp32.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models.backends.base import REDUCED, BackendError, Prepared
from models.backends.openvino_cpu import Compiled, OpenVino

INT8, INT8_WEIGHTS = "openvino-int8.xml", "openvino-int8.bin"
GROUP = 32
LEAST = 64  #: inputs and outputs; a smaller product gains nothing and loses precision


class OpenVinoInt8(OpenVino):
    name = "openvino-int8"
    tolerance = REDUCED
    #: Its images are judged by a sweep of compress_model; beside an exact backend it is too coarse to be chosen unasked.
    in_auto = False

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Quantized(denoiser, self.precision, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP)})


class _Quantized(Compiled):
    def model_of(self, graph: Path) -> Path:
        """The int8 form beside the graph, made now unless it is there."""
        place = graph.with_name(INT8)
        if not place.is_file():
            _publish(graph, place)
        return place


def _publish(graph: Path, place: Path) -> None:
    import openvino
    from openvino.passes import ConstantFolding, Manager

    try:
        model = openvino.Core().read_model(str(graph))
        folding = Manager()
        folding.register_pass(ConstantFolding())  # the exporter leaves weights behind a transposition
        folding.run_passes(model)
        count = quantize(model)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO can't quantize it: {error}") from error
    if not count:
        raise BackendError(f"the network has no matrix product of {LEAST} inputs and outputs or more to quantize")
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".part-") as folder:
        openvino.save_model(model, str(Path(folder) / INT8), compress_to_fp16=False)
        shutil.move(Path(folder) / INT8_WEIGHTS, place.with_name(INT8_WEIGHTS))
        os.replace(Path(folder) / INT8, place)  # last, for it says that both are there


def quantize(model: Any) -> int:
    """Changes the weights of an ``openvino.Model`` to int8 with a scale for each output channel. Returns how many there were."""
    count = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        weight = product.input_value(1).get_node()
        if weight.get_type_name() == "Constant" and len(weight.shape) == 2 and min(weight.shape) >= LEAST:
            inputs = 1 if product.get_attributes()["transpose_b"] else 0
            product.input(1).replace_source_output(_in_int8(weight.data, inputs).output(0))
            count += 1
    return count


def _in_int8(weight: np.ndarray, inputs: int) -> Any:
    """:param inputs: axis of the values that are summed over"""
    from openvino import opset13 as ops

    scale = np.maximum(np.abs(weight).max(axis=inputs, keepdims=True) / 127, 1e-12).astype(np.float32)
    values = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(values), "f32"), ops.constant(scale))
