"""What a training run is: flat, typed, read from YAML, checked before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator


class TrainingConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, lt=2**31, description="Decides the initial weights, the order of the samples, noise and noise levels.")
    max_steps: int = Field(1000, ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, le=4096, description="Samples a step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="After the warm-up.")
    warmup_steps: int = Field(100, ge=0, description="Steps in which the learning rate rises linearly.")
    decay_fraction: float = Field(
        0.3, ge=0, le=1, description="Last share of the steps, in which the learning rate falls linearly to zero."
    )
    optimizer: Literal["adamw", "muon"] = Field("muon", description="muon: Muon for the matrices of the blocks, AdamW for the rest.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay.")
    gradient_clip: float = Field(1.0, gt=0, description="Norm that gradients are cut to.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights, which are what is exported.")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="Share of the samples trained without their caption, for guidance.")
    alternative_captions: float = Field(0.3, ge=0, le=1, description="Share of the samples trained with one of their other captions.")
    sigma_mean: float = Field(0.0, ge=-5, le=5, description="Mean of the logit of the noise level (Esser et al. 2024).")
    sigma_std: float = Field(1.0, gt=0, le=5, description="Its standard deviation.")
    exclude: str = Field("", description="Samples whose key or a caption matches this regular expression are left out.")
    network: dict[str, Any] = Field(default_factory=dict, description="Arguments of the network, when training starts from scratch.")
    precision: Literal["fp32", "bf16"] = Field("bf16", description="Arithmetic of the network; weights are kept in fp32 beside it.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads; 0 leaves it to PyTorch.")
    log_every: int = Field(20, ge=1, description="Steps between two progress lines.")
    checkpoint_every: int = Field(500, ge=1, description="Steps between two checkpoints.")
    validate_every: int = Field(500, ge=1, description="Steps between two held-out losses and sample grids.")
    validation_samples: int = Field(128, ge=1, description="Held-out samples at most.")
    sample_prompts: list[str] = Field(default_factory=list, description="Prompts of the sample grid.")
    sample_steps: int = Field(12, ge=1, le=200, description="Denoising steps of the sample grid.")
    guidance: float = Field(3.0, ge=0, le=30, description="Guidance of the sample grid, and the model's default.")

    @field_validator("exclude")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern

    def learning_rate_at(self, step: int) -> float:
        """Rises, stays, falls. The constant part does not depend on ``max_steps``, so a run may be lengthened or cut while it lasts."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay_steps = max(1, round(self.decay_fraction * self.max_steps))
        return self.learning_rate * min(warm, min(1.0, (self.max_steps - step) / decay_steps))


def load_config(path: Path | str, **overrides: Any) -> TrainingConfig:
    """The YAML at ``path`` with those ``overrides`` that are not None. Raises :class:`ValueError` that names the field."""
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping of settings to values")
    return TrainingConfig.model_validate({**content, **{name: value for name, value in overrides.items() if value is not None}})
