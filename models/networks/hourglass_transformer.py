"""A small text-conditioned transformer on pixels that does most of its work on few tokens.

Two levels, as in the hourglass diffusion transformer (Crowson et al. 2024): narrow blocks on fine patches at both ends, wide blocks on
2×2 merged patches with the text tokens between them. Time and pooled text modulate each block by one shared projection (adaLN-single,
Chen et al. 2023, PixArt-α). The last layer predicts the clean image, from which the velocity follows; Li & He (2025, "Back to basics: let
denoising generative models denoise") found that to learn better than the velocity itself when a patch has many values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

MERGE = 2  #: fine patches per side that become one token of the inner level


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoids of ``(B,)`` timesteps in 0..1000 as ``(B, dim)``."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Attention(nn.Module):
    """Self-attention with normalised queries and keys, which keeps bf16 logits bounded at high learning rates."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads = dim // head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.temperature = nn.Parameter(torch.full((self.heads, 1, 1), head_dim**0.5))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (_normalise(q) * self.temperature).to(v.dtype), _normalise(k).to(v.dtype)
        # The backward pass of the fused CPU attention costs four times these three lines at a hundred tokens.
        weights = (q / q.shape[-1] @ k.transpose(-1, -2)).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Attention and feed-forward, both shifted, scaled and gated by the conditioning ``(B, 6, dim)``."""

    def __init__(self, dim: int, head_dim: int, mlp_ratio: int) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attention = Attention(dim, head_dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.SiLU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (conditioning + self.modulation)[:, :, None].unbind(1)
        x = torch.addcmul(x, gate_a, self.attention(torch.addcmul(shift_a, _normalise(x), 1 + scale_a)))
        return torch.addcmul(x, gate_m, self.mlp(torch.addcmul(shift_m, _normalise(x), 1 + scale_m)))


def _normalise(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6)


def _conditioning_head(condition_dim: int, dim: int) -> nn.Sequential:
    head = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, 6 * dim))
    nn.init.zeros_(head[1].weight)
    nn.init.zeros_(head[1].bias)
    return head


class HourglassTransformer2DModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Velocity of a rectified flow: noise minus image.

    ``sample_size`` is the side in pixels it was trained at; other sides that are multiples of ``2 * patch_size`` work by interpolating the
    positions. ``min_sigma`` bounds the division that turns the predicted image into a velocity.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        patch_size: int = 4,
        outer_dim: int = 64,
        outer_depth: int = 1,
        inner_dim: int = 320,
        inner_depth: int = 5,
        head_dim: int = 64,
        mlp_ratio: int = 4,
        text_dim: int = 384,
        text_length: int = 16,
        min_sigma: float = 0.05,
    ) -> None:
        super().__init__()
        if sample_size % (MERGE * patch_size):
            raise ValueError(f"sample_size {sample_size} must be a multiple of {MERGE} x patch_size = {MERGE * patch_size}")
        if head_dim % 4:
            raise ValueError(f"head_dim {head_dim} must be a multiple of 4")
        if outer_dim % head_dim or inner_dim % head_dim:
            raise ValueError(f"outer_dim {outer_dim} and inner_dim {inner_dim} must be multiples of head_dim {head_dim}")
        grid = sample_size // patch_size
        self.patch_in = nn.Linear(in_channels * patch_size**2, outer_dim)
        self.outer_position = nn.Parameter(_sinusoid_grid(outer_dim, grid))
        self.inner_position = nn.Parameter(_sinusoid_grid(inner_dim, grid // MERGE))
        self.text_position = nn.Parameter(0.02 * torch.randn(1, text_length, inner_dim))
        self.text_padding = nn.Parameter(0.02 * torch.randn(inner_dim))
        self.text_in = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, inner_dim))
        self.pooled_in = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, inner_dim))
        self.time_in = nn.Sequential(nn.Linear(256, inner_dim), nn.SiLU(), nn.Linear(inner_dim, inner_dim))
        self.outer_conditioning = _conditioning_head(inner_dim, outer_dim)
        self.inner_conditioning = _conditioning_head(inner_dim, inner_dim)
        self.down = nn.ModuleList(Block(outer_dim, head_dim, mlp_ratio) for _ in range(outer_depth))
        self.merge = nn.Linear(MERGE**2 * outer_dim, inner_dim)
        self.inner = nn.ModuleList(Block(inner_dim, head_dim, mlp_ratio) for _ in range(inner_depth))
        self.split = nn.Linear(inner_dim, MERGE**2 * outer_dim)
        self.up = nn.ModuleList(Block(outer_dim, head_dim, mlp_ratio) for _ in range(outer_depth))
        self.patch_out = nn.Sequential(nn.LayerNorm(outer_dim), nn.Linear(outer_dim, in_channels * patch_size**2))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, text_mask: Tensor, pooled: Tensor) -> Tensor:
        """Velocity ``(B, C, H, W)`` at ``sample`` of that shape.

        ``timestep`` is ``(B,)`` in 0..1000, 1000 being pure noise; ``text`` ``(B, L, text_dim)`` token states with L at most
        ``text_length``; ``text_mask`` ``(B, L)`` true where a token is one; ``pooled`` ``(B, text_dim)``.
        """
        condition = self.time_in(timestep_embedding(timestep, 256).to(self.patch_in.weight.dtype)) + self.pooled_in(pooled)
        outer, inner = (head(condition).unflatten(1, (6, -1)) for head in (self.outer_conditioning, self.inner_conditioning))
        rows, columns = sample.shape[-2] // self.config.patch_size, sample.shape[-1] // self.config.patch_size
        x = self.patch_in(_to_tokens(sample, self.config.patch_size)) + _positions(self.outer_position, rows, columns)
        for block in self.down:
            x = block(x, outer)
        merged = self._inner_level(x, inner, text, text_mask, rows, columns)
        x = x + _from_merged(self.split(merged), rows, columns)
        for block in self.up:
            x = block(x, outer)
        image = _to_image(self.patch_out(x), rows, columns, self.config.patch_size)
        sigma = (timestep.float() / 1000).clamp_min(self.config.min_sigma)[:, None, None, None]
        return (sample.float() - image.float()) / sigma

    def _inner_level(self, x: Tensor, conditioning: Tensor, text: Tensor, text_mask: Tensor, rows: int, columns: int) -> Tensor:
        merged = self.merge(_to_merged(x, rows, columns)) + _positions(self.inner_position, rows // MERGE, columns // MERGE)
        words = torch.where(text_mask[..., None], self.text_in(text), self.text_padding.to(merged.dtype))
        words = words + self.text_position[:, : text.shape[1]]
        merged = torch.cat([merged, words.to(merged.dtype)], dim=1)
        for block in self.inner:
            merged = block(merged, conditioning)
        return merged[:, : rows * columns // MERGE**2]


def _sinusoid_grid(dim: int, side: int, longest: float = 100.0) -> Tensor:
    """Where learned positions ``(1, dim, side, side)`` start: near places alike, a quarter each for sine and cosine of row and column.

    From small random positions, neighbouring patches were still drawn without regard to each other after 30,000 samples.
    """
    frequencies = longest ** -(torch.arange(dim // 4) / (dim // 4))
    angles = frequencies[:, None] * torch.arange(side)[None]
    waves = torch.cat([angles.sin(), angles.cos()])[:, :, None].expand(-1, -1, side)
    return torch.cat([waves, waves.transpose(1, 2)])[None].clone()


def _positions(table: Tensor, rows: int, columns: int) -> Tensor:
    if table.shape[-2:] != (rows, columns):
        table = F.interpolate(table.float(), size=(rows, columns), mode="bilinear", align_corners=False).to(table.dtype)
    return table.flatten(2).transpose(1, 2)


def _to_tokens(image: Tensor, patch: int) -> Tensor:
    """``(B, C, H, W)`` as ``(B, H/p · W/p, C·p·p)``."""
    return F.pixel_unshuffle(image, patch).flatten(2).transpose(1, 2)


def _to_image(tokens: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), patch)


def _to_merged(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Each 2×2 of the tokens side by side in one: ``(B, R·C, D)`` as ``(B, R·C/4, 4·D)``."""
    batch, _, dim = tokens.shape
    grid = tokens.view(batch, rows // MERGE, MERGE, columns // MERGE, MERGE, dim)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns // MERGE**2, MERGE**2 * dim)


def _from_merged(tokens: Tensor, rows: int, columns: int) -> Tensor:
    batch = tokens.shape[0]
    grid = tokens.view(batch, rows // MERGE, columns // MERGE, MERGE, MERGE, -1)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)
