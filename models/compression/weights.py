"""Variants that are a pipeline with other weights in the same places: stored in half, or with the smallest at zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.backends.attached import denoiser_of
from models.backends.torchao_int8 import is_large
from models.compression.base import Variant, VariantError
from models.compression.directories import PIPELINE, link_tree, replace_file
from models.compression.plan import SweepPlan
from models.pipelines.golden import GoldenShot, write_golden
from models.pipelines.loading import load_text_to_image

#: Gives a tensor's stored form from its name and itself.
Change = Callable[[str, Tensor], Tensor]


def rewrite(path: Path, change: Change) -> None:
    """Writes a safetensors file anew; its other readers keep theirs."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: change(name, file.get_tensor(name)).contiguous() for name in file.keys()}  # noqa: SIM118 - no mapping
    save_file(tensors, replace_file(path), metadata)


def record_golden(plan: SweepPlan, folder: Path) -> None:
    """A pipeline with other weights renders other images, so it gets a golden image of its own."""
    place, found = folder / PIPELINE, plan.measurement
    replace_file(place / "golden.json")
    write_golden(place, load_text_to_image(place, "cpu"), GoldenShot(width=found.width, height=found.height))


@dataclass(frozen=True, kw_only=True)
class HalfPrecision(Variant):
    """Every floating-point weight, encoders included, stored in bf16, and the network computed in it."""

    backend: str = "torch-bf16"

    def build(self, plan: SweepPlan, folder: Path) -> None:
        link_tree(plan.original.directory, folder / PIPELINE)
        for path in sorted((folder / PIPELINE).rglob("*.safetensors")):
            rewrite(path, lambda name, tensor: tensor.bfloat16() if tensor.is_floating_point() else tensor)
        record_golden(plan, folder)


@dataclass(frozen=True, kw_only=True)
class Sparse(Variant):
    """The ``share`` smallest weights by magnitude of each large linear layer at zero (Han et al. 2015, "Learning both weights and
    connections"), without retraining. No kernel here skips zeros, so it shows what the quality would bear, and no gain."""

    share: float = 0.5

    def build(self, plan: SweepPlan, folder: Path) -> None:
        names = large_weights(denoiser_of(load_text_to_image(plan.original.directory, "cpu")))
        if not names:
            raise VariantError("the network has no linear layer that is large enough")
        link_tree(plan.original.directory, folder / PIPELINE)
        for path in self.network_files(folder):
            rewrite(path, lambda name, tensor: without_smallest(tensor, self.share) if name in names else tensor)
        record_golden(plan, folder)


def large_weights(denoiser: nn.Module) -> set[str]:
    return {f"{name}.weight" for name, module in denoiser.named_modules() if is_large(module, name)}


def without_smallest(weight: Tensor, share: float) -> Tensor:
    """The tensor with that share of its values, those nearest to zero, at zero."""
    count = int(share * weight.numel())
    if not count:
        return weight
    smallest = weight.float().abs().flatten().topk(count, largest=False).indices
    return weight.flatten().index_fill(0, smallest, 0).view_as(weight)
