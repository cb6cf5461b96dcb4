"""OpenVINO on the CPU, in fp32 or with matrix products in bf16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backends.base import EXACT, REDUCED, Availability, Backend, Prepared, Run, installed, on_cpu
from models.backends.calls import Call
from models.backends.onnx_graph import graph_of, run_of


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
        request = openvino.Core().compile_model(str(self.model_of(graph)), "CPU", options).create_infer_request()

        def infer(tensors: Sequence[Tensor]) -> Tensor:
            request.infer([tensor.detach().contiguous().numpy() for tensor in tensors], share_inputs=True)
            return torch.from_numpy(request.get_output_tensor().data.copy())

        return run_of(graph, infer)

    def model_of(self, graph: Path) -> Path:
        """The file that is compiled; made from the graph where it is another one."""
        return graph
