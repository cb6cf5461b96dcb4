"""Runs a small network by torch.compile twice, as two workers of one machine would; prints as JSON what was seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backends.attached import Attachment
from models.backends.known import BACKENDS
from models.pipelines.interruption import make_interruptible

COMPILED = BACKENDS["torch-compile"]


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8)])

    def forward(self, sample: Tensor, scale: Tensor) -> Tensor:
        return torch.tanh(self.blocks[0](sample)) * scale[:, None]


@torch.no_grad()
def main(machine: Path) -> None:
    denoiser = Denoiser().eval().requires_grad_(False)
    make_interruptible(denoiser)  # as the worker's loader does
    calls = [(torch.randn(batch, 8), torch.rand(batch)) for batch in (2, 5)]
    expected = [denoiser(*call) for call in calls]
    seen = []
    for _ in range(2):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        attachment = Attachment(denoiser, machine / "digest", lambda key: COMPILED)
        alike = all(torch.allclose(denoiser(*call), images, atol=1e-5) for call, images in zip(calls, expected, strict=True))
        found = torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]
        seen.append({"ran": attachment.ran, "failed": attachment.failed, "alike": alike, "found": found})
        attachment.detach()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
