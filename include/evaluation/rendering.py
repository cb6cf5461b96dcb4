"""Rendering prompts, with the time that each batch took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.pipelines.text_to_image import AtelierTextToImagePipeline


@dataclass(frozen=True, kw_only=True)
class Rendered:
    images: np.ndarray  #: (N, H, W, 3) uint8
    seconds: list[float]  #: of each image, as its batch had it on average

    def speed(self) -> dict[str, float]:
        """Seconds per image: over all, and the median and the 95th percentile of the images."""
        return {
            "seconds_per_image": float(np.average(self.seconds)),
            "seconds_per_image_p50": float(np.percentile(self.seconds, 50)),
            "seconds_per_image_p95": float(np.percentile(self.seconds, 95)),
        }


def side_by_side(
    pipelines: Mapping[str, AtelierTextToImagePipeline], prompts: Sequence[str], *, steps: int, guidance: float, turns: int = 3
) -> dict[str, float]:
    """Median seconds an image of each, in turns: what else the machine does meanwhile slows all of them, so that they can be compared."""
    taken: dict[str, list[float]] = {name: [] for name in pipelines}
    for turn in range(turns):
        for name, pipeline in pipelines.items():
            rendered = render(pipeline, prompts, steps=steps, guidance=guidance, seed=turn, batch_size=len(prompts))
            taken[name].append(rendered.seconds[0])
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def render(
    pipeline: AtelierTextToImagePipeline,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    seed: int,
    batch_size: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Rendered:
    """One image a prompt. The noise of a batch comes from ``seed`` and its place, so equal calls give equal images."""
    images: list[Image.Image] = []
    seconds: list[float] = []
    for start in range(0, len(prompts), batch_size):
        batch, began = list(prompts[start : start + batch_size]), time.monotonic()
        images += pipeline(batch, num_inference_steps=steps, guidance_scale=guidance, seed=seed + start).images
        seconds += [(time.monotonic() - began) / len(batch)] * len(batch)
        progress(f"rendered {len(images)} of {len(prompts)}")
    return Rendered(images=np.stack([np.asarray(image) for image in images]), seconds=seconds)
