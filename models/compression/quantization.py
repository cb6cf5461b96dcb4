"""Linear layers in int8 or int4, by torchao, kept as they run: the quantized tensors go to a safetensors file and come back bit for bit.

torchao's own writer takes only tensors inside a module, and knows no packed int4 for a CPU; so the plain tensors go past it, and int4
values are packed two to a byte on their way to the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.backends.attached import denoiser_of
from models.backends.base import Availability, installed
from models.backends.torch_bf16 import copy_of
from models.backends.torchao_int8 import dynamic_int8, quantized
from models.compression.base import Variant, VariantError
from models.compression.directories import PIPELINE, link_tree
from models.compression.plan import SweepPlan
from models.pipelines.loading import load_text_to_image

FILE = "network.safetensors"
PACKED = "atelier_packed"  #: in the file's metadata: names of the tensors with two int4 values a byte
GROUP = 32  #: weights that share a scale in int4


def weight_only_int4() -> Any:
    """Symmetric, a scale for each :data:`GROUP` weights of a row; they are widened again for every product."""
    from torchao.quantization import IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    return IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP))


@dataclass(frozen=True, kw_only=True)
class Quantized(Variant):
    """Runs as quantized by ``config``; the original weights stay beside it for what runs without."""

    config: Callable[[], Any] = dynamic_int8
    backend: str = "torchao-int8"
    packs: bool = False  #: whether the values are in int4

    def availability(self, plan: SweepPlan) -> Availability:
        return installed("torchao")

    def build(self, plan: SweepPlan, folder: Path) -> None:
        denoiser = denoiser_of(load_text_to_image(plan.original.directory, "cpu"))
        state = quantized(copy_of(denoiser), self.config()).state_dict()
        if all(type(tensor) is Tensor for tensor in state.values()):
            raise VariantError("the network has no linear layer that is large enough to quantize")
        link_tree(plan.original.directory, folder / PIPELINE)
        write_quantized(state, folder / FILE, packs=self.packs)

    def load(self, folder: Path, device: str) -> Any:
        pipeline = load_text_to_image(folder / PIPELINE, "cpu")
        denoiser_of(pipeline).load_state_dict(read_quantized(folder / FILE), assign=True)
        own = pipeline.pipeline
        (own.pipe if hasattr(own, "pipe") else own).to(device)
        own.backend = self.backend
        return pipeline

    def network_files(self, folder: Path) -> list[Path]:
        return [folder / FILE]


def write_quantized(state: dict[str, Tensor], path: Path, *, packs: bool) -> None:
    """A state of plain tensors and torchao's."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    plain = {name: tensor for name, tensor in state.items() if type(tensor) is Tensor}
    parts, metadata = flatten_tensor_state_dict({name: tensor for name, tensor in state.items() if name not in plain})
    packed = [name for name in parts if packs and name.endswith("_qdata")]
    parts |= {name: pack_int4(parts[name]) for name in packed}
    tensors = {name: tensor.contiguous() for name, tensor in (parts | plain).items()}
    save_file(tensors, path, {**metadata, PACKED: json.dumps(packed)})


def read_quantized(path: Path) -> dict[str, Tensor]:
    """The state that :func:`write_quantized` wrote."""
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    for name in json.loads(metadata.pop(PACKED)):
        tensors[name] = unpack_int4(tensors[name])
    state, plain = unflatten_tensor_state_dict(tensors, metadata)
    return {**plain, **state}


def pack_int4(values: Tensor) -> Tensor:
    """``(..., 2n)`` int8 in -8..7 as ``(..., n)`` uint8, the first of two in the lower half."""
    low, high = (values + 8).to(torch.uint8).unflatten(-1, (-1, 2)).unbind(-1)
    return low | (high << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """What :func:`pack_int4` packed."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2).to(torch.int8) - 8
