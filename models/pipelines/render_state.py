"""A render of the rectified flow between two steps: plain tensors and numbers, so that it can be stored and go on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from models.pipelines.state_file import pack, unpack
from models.pipelines.text_encoder import TextEmbeddings

KIND = "atelier.rectified-flow.1"
_TEXTS, _PARTS = ("positive", "negative"), ("tokens", "mask", "pooled")


@dataclass(frozen=True)
class Conditioning:
    """What a batch of items is rendered to."""

    positive: TextEmbeddings
    negative: TextEmbeddings
    guidance: Tensor  #: (B,) scales; 1 or less turns guidance off

    def __len__(self) -> int:
        return len(self.guidance)

    @cached_property
    def guided(self) -> bool:
        """Whether any item wants guidance. Found out once, for every step asks."""
        return bool((self.guidance > 1).any())

    @cached_property
    def both(self) -> TextEmbeddings:
        """The positive texts and behind them the negative ones, as a guided step takes them."""
        return TextEmbeddings.join([self.positive, self.negative])

    def select(self, kept: Tensor) -> Conditioning:
        return Conditioning(self.positive[kept], self.negative[kept], self.guidance[kept])

    def join(self, other: Conditioning) -> Conditioning:
        return Conditioning(
            TextEmbeddings.join([self.positive, other.positive]),
            TextEmbeddings.join([self.negative, other.negative]),
            torch.cat([self.guidance, other.guidance]),
        )


@dataclass(frozen=True)
class RenderState:
    """Some items on their way from noise to image, not all of them equally far."""

    latents: Tensor  #: (B, 3, H, W) float32, noise at first, the image in -1..1 at last
    sigmas: Tensor  #: (steps + 1,) noise levels from 1 to 0, on the CPU
    progress: tuple[int, ...]  #: steps done, by item
    conditioning: Conditioning
    denoised: Tensor  #: (B, 3, H, W) the images as predicted at the last step; the latents before the first

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def done(self) -> bool:
        return min(self.progress) >= self.steps

    def select(self, indices: Sequence[int]) -> RenderState:
        """The render without the other items, for when some are cancelled or finished."""
        kept = torch.tensor(indices, dtype=torch.long, device=self.latents.device)
        return replace(
            self,
            latents=self.latents[kept],
            progress=tuple(self.progress[index] for index in indices),
            conditioning=self.conditioning.select(kept),
            denoised=self.denoised[kept],
        )

    def join(self, other: RenderState) -> RenderState:
        """The items of both, the other's after ours. Raises :class:`ValueError` where they are of another size or number of steps."""
        if self.latents.shape[1:] != other.latents.shape[1:] or not torch.equal(self.sigmas, other.sigmas):
            raise ValueError(f"items of {tuple(other.latents.shape[1:])} and {other.steps} steps can't join a render of other ones")
        return replace(
            self,
            latents=torch.cat([self.latents, other.latents]),
            progress=self.progress + other.progress,
            conditioning=self.conditioning.join(other.conditioning),
            denoised=torch.cat([self.denoised, other.denoised]),
        )

    def dump(self) -> bytes:
        """Safetensors that :func:`restore_state` reads back, bit for bit."""
        texts = {f"{text}.{part}": getattr(getattr(self.conditioning, text), part) for text in _TEXTS for part in _PARTS}
        numbers = {"sigmas": self.sigmas, "guidance": self.conditioning.guidance}
        return pack(KIND, {"latents": self.latents, "denoised": self.denoised, **numbers, **texts}, {"progress": self.progress})


def restore_state(data: bytes, device: torch.device | str = "cpu") -> RenderState:
    """Reads what :meth:`RenderState.dump` wrote. Raises :class:`ValueError` for anything else."""
    tensors, values = unpack(KIND, data)
    try:
        texts = [TextEmbeddings(*(tensors[f"{text}.{part}"].to(device) for part in _PARTS)) for text in _TEXTS]
        conditioning = Conditioning(texts[0], texts[1], tensors["guidance"].to(device))
        progress, latents, denoised = tuple(values["progress"]), tensors["latents"].to(device), tensors["denoised"].to(device)
        state = RenderState(latents, tensors["sigmas"], progress, conditioning, denoised)
        _check(state)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a stored render: {error!r}") from error
    return state


def _check(state: RenderState) -> None:
    count = len(state.progress)
    texts = (state.conditioning.positive, state.conditioning.negative)
    batched = [state.latents, state.denoised, state.conditioning.guidance, *(getattr(text, part) for text in texts for part in _PARTS)]
    if not count or any(len(tensor) != count for tensor in batched) or state.latents.shape != state.denoised.shape:
        raise ValueError(f"not a stored render: its tensors are not all of {count} items")
    if state.steps < 1 or not all(0 <= step <= state.steps for step in state.progress):
        raise ValueError(f"not a stored render: progress {state.progress} of {state.steps} steps")
    if not all(torch.isfinite(tensor.float()).all() for tensor in batched):
        raise ValueError("not a stored render: it holds values that are not finite")
