"""The variants there are, as a form or a report names them; ``models.compression.known`` has what builds them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

ORIGINAL, DISTILLED = "fp32", "distilled"


@dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    what: str  #: one line for people
    same_images: bool = True  #: whether it computes what the original does, so that the images of equal seeds must be alike
    servable: bool = False  #: whether it is a pipeline with other weights, which may be registered as a version of its own


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name=ORIGINAL, what="the version as it is registered"),
        Kind(name="bf16", what="weights and arithmetic in bf16", servable=True),
        Kind(name="int8", what="int8 weights, activations quantized as they come (torchao)"),
        Kind(name="int4", what="int4 weights, widened for each product (torchao)"),
        Kind(name="pruned-25", what="a quarter of the hidden units removed, the rest refitted", same_images=False, servable=True),
        Kind(name="pruned-50", what="half of the hidden units removed, the rest refitted", same_images=False, servable=True),
        Kind(name="sparse-50", what="the smaller half of the weights at zero", same_images=False, servable=True),
        Kind(name=DISTILLED, what="the few-step student of distill_steps", same_images=False),
        Kind(name="onnx", what="ONNX Runtime, fp32"),
        Kind(name="onnx-int8", what="ONNX Runtime, dynamic int8"),
        Kind(name="openvino", what="OpenVINO, fp32"),
        Kind(name="openvino-bf16", what="OpenVINO, products in bf16"),
        Kind(name="openvino-int8", what="OpenVINO, products in int8"),
        Kind(name="tensorrt", what="TensorRT, fp16"),
    )
}


def chosen(names: list[str]) -> tuple[str, ...]:
    """The original and the named variants, each once. Raises :class:`ValueError` that names the field and the choices."""
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"variants: there is no variant {', '.join(map(repr, unknown))}; there are: {', '.join(KINDS)}")
    return tuple(dict.fromkeys([ORIGINAL, *names]))
