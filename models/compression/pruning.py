"""Structured pruning: fewer hidden units in each feed-forward layer, so that the network is smaller and faster wherever it runs.

Units are ranked by what they add to the layer's output, the norm of their activations times that of their outgoing weights (Sun et al.
2024, "A simple and effective pruning approach for large language models", there for single weights). The outgoing weights of those that
stay are then fitted by least squares to what the whole layer gave (Luo et al. 2017, "ThiNet"), on renders of the measured prompts; nothing
is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backends.attached import denoiser_of
from models.backends.base import Availability
from models.compression.base import YES, Variant, VariantError
from models.compression.directories import PIPELINE, link_tree
from models.compression.kinds import ORIGINAL
from models.compression.plan import SweepPlan
from models.compression.rendering import Renders
from models.compression.weights import record_golden
from models.networks.hourglass_transformer import Block, HourglassTransformer2DModel
from models.pipelines.loading import load_text_to_image

CALIBRATION = 8  #: prompts
RIDGE = 1e-4  #: of the mean energy of a unit, so that units which are nearly alike do not blow up the fit


@dataclass(frozen=True, kw_only=True)
class Pruned(Variant):
    """``share`` of the hidden units gone, for networks whose width is a number in their configuration."""

    share: float

    def availability(self, plan: SweepPlan) -> Availability:
        return YES

    def build(self, plan: SweepPlan, folder: Path) -> None:
        pipeline = load_text_to_image(plan.original.directory, "cpu")
        network = denoiser_of(pipeline)
        if not isinstance(network, HourglassTransformer2DModel):
            raise VariantError(f"{type(network).__name__} can't lose units: only HourglassTransformer2DModel has a width to set")
        kept = network.config.mlp_ratio * (1 - self.share)
        if kept < 1 or kept != int(kept):
            raise VariantError(f"mlp_ratio {network.config.mlp_ratio} can't lose {self.share:.0%} of it and stay a whole number")
        with recorded(network) as energies:
            Renders(plan, ORIGINAL, pipeline).finished(range(min(CALIBRATION, len(plan.measurement.prompts))))
        smaller = pruned(network, energies, int(kept))
        link_tree(plan.original.directory, folder / PIPELINE, lambda path: path.parent.name != "network")
        smaller.save_pretrained(str(folder / PIPELINE / "network"), safe_serialization=True)
        record_golden(plan, folder)


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """By block, the products of its hidden units with each other, ``(hidden, hidden)`` float64, summed over all that runs inside."""
    sums: dict[str, Tensor] = {}

    def hook(name: str, hidden: Tensor) -> None:
        rows = hidden.detach().flatten(0, -2).double()
        sums[name] = sums.get(name, 0) + rows.T @ rows

    handles = [
        block.mlp[2].register_forward_pre_hook(lambda module, inputs, name=name: hook(name, inputs[0])) for name, block in blocks(network)
    ]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def blocks(network: nn.Module) -> list[tuple[str, Block]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, Block)]


def pruned(network: HourglassTransformer2DModel, energies: dict[str, Tensor], mlp_ratio: int) -> HourglassTransformer2DModel:
    """A copy whose feed-forward layers have ``mlp_ratio`` times as many hidden units as the layer is wide."""
    weights = dict(network.state_dict())
    for name, block in blocks(network):
        kept, outgoing = refitted(block.mlp[2].weight.detach(), energies[name], mlp_ratio * block.mlp[2].out_features)
        weights[f"{name}.mlp.0.weight"] = block.mlp[0].weight.detach()[kept]
        weights[f"{name}.mlp.0.bias"] = block.mlp[0].bias.detach()[kept]
        weights[f"{name}.mlp.2.weight"] = outgoing
    settings = {name: value for name, value in network.config.items() if not name.startswith("_")}  # what diffusers keeps for itself
    smaller = HourglassTransformer2DModel(**{**settings, "mlp_ratio": mlp_ratio})
    smaller.load_state_dict(weights)
    return smaller.eval()


def refitted(outgoing: Tensor, energy: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` units that matter most, in order, and the weights ``(out, count)`` with which they stand in for all of them.

    :param outgoing: ``(out, hidden)``
    :param energy: ``(hidden, hidden)``, of :func:`recorded`
    """
    whole = outgoing.double()
    importance = energy.diagonal().sqrt() * whole.norm(dim=0)
    kept = importance.topk(count).indices.sort().values
    among = energy[kept][:, kept]
    among = among + RIDGE * among.diagonal().mean() * torch.eye(count, dtype=among.dtype)
    return kept, torch.linalg.solve(among, energy[kept] @ whole.T).T.to(outgoing.dtype)
