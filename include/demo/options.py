"""How large a demo is."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DemoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(description="Where index.html, report.json and the images go.")
    run: str = Field(default_factory=lambda: f"{time.strftime('%m%d%H%M%S')}{secrets.token_hex(2)}", description="In every id of this run.")
    requests: int = Field(60, ge=25, le=10_000, description="Requests in all, the bad ones included.")
    dataset_limit: int | None = Field(None, ge=10, description="Source files; None takes all.")
    shard_size: int = Field(2300, ge=1)
    train_steps: int = Field(16, ge=1, description="Optimizer steps of the first version.")
    second_steps: int = Field(6, ge=1, description="Optimizer steps of the second version, which the rollback leaves again.")
    eval_prompts: int = Field(32, ge=4, description="Captions that an evaluation renders.")
    eval_steps: int = Field(8, ge=1, description="Denoising steps of an evaluation.")
    variants: tuple[str, ...] = Field(("bf16", "openvino-bf16"), description="Compressed variants to measure; none leaves the sweep out.")
    init: str = Field("base", pattern="^(base|scratch)$")
    burst_seconds: float = Field(10.0, ge=0, le=600, description="How long the burst is sent; 0 leaves it out.")
    traffic_timeout_s: float = Field(240.0, gt=0)
    dag_timeout_s: float = Field(600.0, gt=0)
