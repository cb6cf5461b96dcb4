"""torch.compile on a network small enough to be compiled in a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.backends.attached import Attachment
from models.backends.known import BACKENDS
from models.backends.torch_compile import CACHE_VARIABLE

COMPILED = BACKENDS["torch-compile"]

pytestmark = pytest.mark.skipif(not COMPILED.availability("cpu").usable, reason=COMPILED.availability("cpu").detail)


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, sample: Tensor, scale: Tensor) -> Tensor:
        return torch.tanh(self.linear(sample)) * scale[:, None]


@torch.no_grad()
def test_it_gives_what_eager_gives_and_what_it_compiled_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")  # so that it is put back afterwards
    monkeypatch.delenv(CACHE_VARIABLE)
    denoiser = Denoiser().eval().requires_grad_(False)
    calls = [(torch.randn(batch, 8), torch.rand(batch)) for batch in (2, 5)]
    expected = [denoiser(*call) for call in calls]
    for _ in range(2):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        attachment = Attachment(denoiser, tmp_path / "machine" / "digest", lambda key: COMPILED)
        for call, images in zip(calls, expected, strict=True):
            assert torch.allclose(denoiser(*call), images, atol=1e-5)
        assert (attachment.ran, attachment.failed) == (COMPILED.name, {})
        attachment.detach()
    counted = torch._dynamo.utils.counters["inductor"]
    assert (counted["fxgraph_cache_hit"], counted["fxgraph_cache_miss"]) == (1, 0)
    assert any((tmp_path / "machine" / "inductor").iterdir())
    shutil.rmtree(tmp_path / "machine")
