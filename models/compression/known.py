"""What builds each variant, by its name."""

from __future__ import annotations

from models.compression.base import AsRegistered, Distilled, Variant
from models.compression.graphs import OnBackend
from models.compression.pruning import Pruned
from models.compression.quantization import Quantized, weight_only_int4
from models.compression.weights import HalfPrecision, Sparse

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        AsRegistered(name="fp32"),
        HalfPrecision(name="bf16"),
        Quantized(name="int8"),
        Quantized(name="int4", config=weight_only_int4, backend="torchao-int4", packs=True),
        Pruned(name="pruned-25", share=0.25),
        Pruned(name="pruned-50", share=0.5),
        Sparse(name="sparse-50"),
        Distilled(name="distilled"),
        OnBackend(name="onnx", backend="onnxruntime"),
        OnBackend(name="onnx-int8", backend="onnxruntime-int8"),
        OnBackend(name="openvino", backend="openvino"),
        OnBackend(name="openvino-bf16", backend="openvino-bf16"),
        OnBackend(name="openvino-int8", backend="openvino-int8"),
        OnBackend(name="tensorrt", backend="tensorrt"),
    )
}
