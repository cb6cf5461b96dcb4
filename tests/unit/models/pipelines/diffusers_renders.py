"""Renders of the tiny diffusers pipelines, by our loop and by diffusers itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from include.worker.pipeline import Start
from models.pipelines.adapters import AdaptablePipeline
from models.pipelines.latent_state import LatentState
from tests.support.tiny_diffusers import SIDE

PROMPTS = ["red cat", "a small pizza", "blue"]
NEGATIVES = ["", "dog", ""]
SEEDS = [1, 2, 3]
GUIDANCE = [4.0, 3.0, 6.0]
STEPS = 3


def negatives(pipeline: AdaptablePipeline) -> list[str]:
    """Flux has no negative prompt."""
    return ["", "", ""] if pipeline.pipeline.family == "FluxPipeline" else NEGATIVES


def begin(
    pipeline: AdaptablePipeline,
    items: Sequence[int] = (0, 1, 2),
    *,
    steps: int = STEPS,
    guidance: Sequence[float] = GUIDANCE,
    start: Start | None = None,
) -> LatentState:
    texts = negatives(pipeline)
    conditioning = pipeline.encode([PROMPTS[item] for item in items], [texts[item] for item in items], [guidance[item] for item in items])
    return pipeline.prepare(conditioning, [SEEDS[item] for item in items], SIDE, SIDE, steps, start)


def finish(pipeline: AdaptablePipeline, state: LatentState) -> LatentState:
    while state.unfinished():
        state = pipeline.step(state)
    return state


def reference(pipeline: AdaptablePipeline, item: int, *, steps: int = STEPS, guidance: Sequence[float] = GUIDANCE, **given: Any) -> Any:
    """Latents and image of diffusers' own call, of ``pipe`` where another one than the loaded is given."""
    pipe = given.pop("pipe", pipeline.pipeline.pipe)
    pipe.set_progress_bar_config(disable=True)
    text = negatives(pipeline)[item]
    arguments = {
        "num_inference_steps": steps,
        "guidance_scale": guidance[item],
        "output_type": "latent",
        **({"negative_prompt": text} if text else {}),
        **({} if "image" in given else {"height": SIDE, "width": SIDE}),
        **given,
    }
    return pipe(PROMPTS[item], generator=torch.Generator("cpu").manual_seed(SEEDS[item]), **arguments).images


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Within 1e-5 of what they are large."""
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp_min(1.0))


def pixels_apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


def gradient(shift: int = 0) -> Image.Image:
    rows = (np.arange(SIDE) * 12 + shift) % 256
    return Image.fromarray(
        np.stack([np.tile(rows, (SIDE, 1)), np.tile(rows[:, None], SIDE), np.full((SIDE, SIDE), 90)], -1).astype(np.uint8)
    )
