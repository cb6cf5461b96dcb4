"""OpenVINO on the CPU, in fp32 or with matrix products in bf16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.backends.base import EXACT, REDUCED, Availability, Backend, Prepared, Run, installed, on_cpu
from models.backends.calls import Call
from models.backends.onnx_graph import graph_of, layout_of, run_of

SMALL_BYTES = 64 * 2**20  #: of weights in fp32 at most, where each batch may have a copy of them
MAX_FIXED = 8  #: batches that do


class OpenVino(Backend):
    name = "openvino"
    precision = "f32"
    tolerance = EXACT
    packages = ("torch", "onnx", "onnxscript", "openvino")

    def availability(self, device: str) -> Availability:
        found = [installed(package) for package in self.packages]
        missing = [each for each in found if not each.usable]
        return on_cpu(device, missing[0] if missing else found[-1])

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return Compiled(denoiser, self.precision)


class OpenVinoBf16(OpenVino):
    name = "openvino-bf16"
    precision = "bf16"
    tolerance = REDUCED

    def availability(self, device: str) -> Availability:
        found = super().availability(device)
        if not found.usable:
            return found
        if not torch.cpu.get_capabilities().get("avx512_bf16", False):
            return Availability(usable=False, detail="this CPU has no bf16 arithmetic (AVX512-BF16 or AMX)")
        return found


class Compiled(Prepared):
    """:param options: of OpenVINO's CPU device, beside those that all have"""

    def __init__(self, denoiser: nn.Module, precision: str, options: Mapping[str, str] | None = None) -> None:
        self.denoiser = denoiser
        self.precision = precision
        self.options = dict(options or {})

    def open(self, call: Call, folder: Path) -> Run:
        import openvino

        graph = graph_of(self.denoiser, call, folder)
        options = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            **self.options,
        }
        model = openvino.Core().read_model(str(self.model_of(graph)))
        normalise_in_three_dimensions(model)
        layout = layout_of(graph)
        requests = ByBatch(model, options, [call.batched[index] for index in layout.inputs])

        def infer(tensors: Sequence[Tensor]) -> Tensor:
            arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
            request = requests.of(arrays)
            request.infer(arrays, share_inputs=True)
            return torch.from_numpy(request.get_output_tensor().data.copy())

        return run_of(layout, infer)

    def model_of(self, graph: Path) -> Path:
        """The file that is compiled; made from the graph where it is another one."""
        return graph


class ByBatch:
    """Inference requests of one model. The first batches of a small network get one each, compiled for that size: with shapes that are
    open, a step of a few milliseconds spends a tenth of them on working out shapes and fuses less. Everything else shares one."""

    def __init__(self, model: Any, options: Mapping[str, Any], batched: Sequence[bool]) -> None:
        self.model = model
        self.options = dict(options)
        self.batched = batched
        self._fixed: dict[int, Any] = {}
        self._any: Any = None
        self._small = _constant_bytes(model) <= SMALL_BYTES

    def of(self, arrays: Sequence[Any]) -> Any:
        """What runs these inputs. Compiles where there is none yet, which takes tenths of a second for a small network."""
        batch = next((len(array) for array, batched in zip(arrays, self.batched, strict=True) if batched), 0)
        if batch in self._fixed:
            return self._fixed[batch]
        if not batch or not self._small or len(self._fixed) >= MAX_FIXED:
            self._any = self._any or self._compiled(self.model)
            return self._any
        fixed = self.model.clone()
        fixed.reshape({place: list(array.shape) for place, array in enumerate(arrays)})
        self._fixed[batch] = self._compiled(fixed)
        return self._fixed[batch]

    def _compiled(self, model: Any) -> Any:
        import openvino

        return openvino.Core().compile_model(model, "CPU", self.options).create_infer_request()


def _constant_bytes(model: Any) -> int:
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def normalise_in_three_dimensions(model: Any) -> int:
    """Folds leading dimensions of what is normalised over the last of four or more, as queries and keys are: for these OpenVINO's CPU
    device has no kernel and computes mean, difference, variance and product one by one. Changes an ``openvino.Model``; returns how many."""
    from openvino import opset13 as ops

    count = 0
    for node in model.get_ordered_ops():
        shape = node.input_value(0).get_partial_shape() if node.get_type_name() == "MVN" else None
        if shape is None or shape.rank.is_dynamic or len(shape) < 4 or _axes(node) not in ([-1], [len(shape) - 1]):
            continue
        source, settings = node.input_value(0), node.get_attributes()
        folded = ops.reshape(source, np.array([0, -1, shape[len(shape) - 1].get_length()]), special_zero=True)
        normal = ops.mvn(folded, np.array([2]), settings["normalize_variance"], settings["eps"], settings["eps_mode"])
        unfolded = ops.reshape(normal, ops.shape_of(source), special_zero=False)
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(unfolded.output(0))
        count += 1
    return count


def _axes(node: Any) -> list[int] | None:
    """The axes that an MVN reduces, where they can be told."""
    axes = node.input_value(1).get_node()
    if axes.get_type_name() == "Constant":
        return [int(axis) for axis in axes.data.reshape(-1)]
    bounds = [value.get_node() for value in axes.input_values()]
    if axes.get_type_name() == "Range" and all(bound.get_type_name() == "Constant" for bound in bounds):
        return list(range(*(int(bound.data) for bound in bounds)))
    return None
