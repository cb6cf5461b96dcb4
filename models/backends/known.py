"""Every backend by its name, those that need least first."""

from __future__ import annotations

from models.backends.base import Backend
from models.backends.deepspeed_inference import DeepSpeed
from models.backends.onnx_runtime import OnnxRuntime, OnnxRuntimeInt8
from models.backends.openvino_cpu import OpenVino, OpenVinoBf16
from models.backends.openvino_int8 import OpenVinoInt8
from models.backends.torch_bf16 import TorchBf16
from models.backends.torch_compile import TorchCompile
from models.backends.torch_eager import TorchEager
from models.backends.torch_tensorrt import TorchTensorRt
from models.backends.torchao_int8 import TorchaoInt8

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        TorchEager(),
        TorchBf16(),
        TorchCompile(),
        TorchaoInt8(),
        OnnxRuntime(),
        OnnxRuntimeInt8(),
        OpenVino(),
        OpenVinoBf16(),
        OpenVinoInt8(),
        TorchTensorRt(),
        DeepSpeed(),
    )
}


def backend_named(name: str) -> Backend:
    """Raises :class:`ValueError` for a name that is none."""
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r}: use auto or one of {', '.join(BACKENDS)}; `atelier doctor` says which can run here")
    return BACKENDS[name]
