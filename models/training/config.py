"""What a training run is: flat, typed, read from YAML, checked before anything is loaded."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class TrainingConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, lt=2**31, description="Decides the initial weights, the order of the samples, noise and noise levels.")
    max_steps: int = Field(1000, ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, le=4096, description="Samples a step, of all processes together.")
    micro_batch: int = Field(0, ge=0, le=4096, description="Samples a pass, whose gradients add up to a step's; 0 is the whole batch.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="After the warm-up.")
    warmup_steps: int = Field(100, ge=0, description="Steps in which the learning rate rises linearly.")
    decay_fraction: float = Field(
        0.3, ge=0, le=1, description="Last share of the steps, in which the learning rate falls linearly to zero."
    )
    optimizer: Literal["adamw", "muon"] = Field("muon", description="muon: Muon for the matrices of the blocks, AdamW for the rest.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay.")
    gradient_clip: float = Field(1.0, gt=0, description="Norm that gradients are cut to.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Decay of the averaged weights, which are what is exported.")
    method: Literal["full", "lora"] = Field("full", description="lora: low-rank adapters beside frozen weights (Hu et al. 2021).")
    lora_rank: int = Field(8, ge=1, le=1024, description="Rank of the adapters.")
    lora_alpha: int = Field(8, ge=1, le=4096, description="The adapters' output is scaled by lora_alpha / lora_rank.")
    lora_targets: list[str] = Field(default_factory=list, description="Names of the layers that get one; empty: the attention's.")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="Share of the samples trained without their caption, for guidance.")
    alternative_captions: float = Field(0.3, ge=0, le=1, description="Share of the samples trained with one of their other captions.")
    sigma_mean: float = Field(0.0, ge=-5, le=5, description="Flow matching: mean of the logit of the noise level (Esser et al. 2024).")
    sigma_std: float = Field(1.0, gt=0, le=5, description="Its standard deviation.")
    snr_gamma: float | None = Field(None, gt=0, le=100, description="Limit of the min-SNR weighting (Hang et al. 2023); empty: none.")
    exclude: str = Field("", description="Samples whose key or a caption matches this regular expression are left out.")
    shuffle_window: int = Field(
        16, ge=1, le=4096, description="Row groups of 64 samples that are shuffled together; three times as many are in memory."
    )
    loader_threads: int = Field(2, ge=1, le=64, description="Threads that read and decode ahead; the order doesn't depend on them.")
    download_gib: float = Field(50, gt=0, description="GiB of a bucket's files that are kept here; those used longest ago go first.")
    network: dict[str, Any] = Field(default_factory=dict, description="Arguments of the network, when training starts from scratch.")
    precision: Literal["fp32", "bf16"] = Field("bf16", description="Arithmetic of the network; weights are kept in fp32 beside it.")
    gradient_checkpointing: bool = Field(False, description="Compute the blocks again in the backward pass: less memory, a third slower.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads; 0 leaves it to PyTorch.")
    log_every: int = Field(20, ge=1, description="Steps between two progress lines.")
    checkpoint_every: int = Field(500, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(
        2, ge=2, le=100, description="Newest checkpoints that are kept; the one before serves where one is damaged."
    )
    validate_every: int = Field(500, ge=1, description="Steps between two held-out losses and sample grids.")
    validation_samples: int = Field(128, ge=1, description="Held-out samples at most.")
    export: Literal["last", "best"] = Field("last", description="best: the weights with the lowest held-out loss become the model.")
    sample_prompts: list[str] = Field(default_factory=list, description="Prompts of the sample grid.")
    sample_steps: int = Field(12, ge=1, le=200, description="Denoising steps of the sample grid; those of a distilled model.")
    guidance: float = Field(3.0, ge=0, le=30, description="Guidance of the sample grid, and the model's default.")
    teacher_steps: int = Field(3, ge=1, le=50, description="Distillation: steps of the teacher for one of the student's.")
    teacher_guidance: float = Field(3.0, ge=0, le=30, description="Distillation: guidance that the student learns to do without.")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        for name in values if isinstance(values, dict) else ():
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, 1)
                raise ValueError(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else f"; see {Path(__file__).name}"))
        return values

    @field_validator("exclude")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} must be at most batch_size {self.batch_size}")
        return self

    def learning_rate_at(self, step: int) -> float:
        """Rises, stays, falls. The constant part does not depend on ``max_steps``, so a run may be lengthened or cut while it lasts."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay_steps = max(1, round(self.decay_fraction * self.max_steps))
        return self.learning_rate * min(warm, min(1.0, (self.max_steps - step) / decay_steps))

    def identity(self) -> dict[str, Any]:
        """The settings that a run can't change on the way: its checkpoints mean nothing under others."""
        return self.model_dump(mode="json", include=set(IDENTITY))


#: The rest may differ when a run goes on: how long, how fast, how often it is looked at.
IDENTITY = frozenset(
    {
        "seed", "batch_size", "optimizer", "method", "lora_rank", "lora_alpha", "lora_targets", "caption_dropout", "alternative_captions",
        "sigma_mean", "sigma_std", "snr_gamma", "exclude", "shuffle_window", "network", "precision", "teacher_steps", "teacher_guidance",
    }
)  # fmt: skip


def load_config(path: Path | str, **overrides: Any) -> TrainingConfig:
    """The YAML at ``path`` with those ``overrides`` that are not None. Raises :class:`ValueError` that names the field."""
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping of settings to values")
    return TrainingConfig.model_validate({**content, **{name: value for name, value in overrides.items() if value is not None}})
