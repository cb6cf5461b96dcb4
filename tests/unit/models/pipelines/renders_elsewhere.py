"""Renders with each pipeline on the CPU and on another device; prints as JSON how far images are apart, of 255, or what was raised."""

from __future__ import annotations

import json
import tempfile
import traceback
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from include.worker.pipeline import Pipeline, Start, load_torch
from tests.support import tiny_diffusers, tiny_pipeline
from tests.support.other_device import DEVICE, OtherDevice, move

OWN = "atelier"
PROMPTS, NEGATIVES, GUIDANCE, SEEDS, STEPS = ["red cat", "blue"], ["", ""], [4.0, 3.0], [1, 2], 4


def written(family: str, directory: Path) -> Path:
    return tiny_pipeline.write_tiny_pipeline(directory) if family == OWN else tiny_diffusers.write_tiny_diffusers(family, directory)


def render(pipeline: Pipeline, side: int, start: Start | None) -> list[Image.Image]:
    """What a worker does in a render: another joins where that is possible and leaves, a preview, a restart from what was stored."""
    conditioning = pipeline.encode(PROMPTS, NEGATIVES, GUIDANCE)
    state = pipeline.step(pipeline.prepare(conditioning, SEEDS, side, side, STEPS, start))
    if pipeline.joins:
        late = pipeline.prepare(pipeline.encode(PROMPTS[:1], NEGATIVES[:1], GUIDANCE[:1]), [3], side, side, STEPS)
        state = state.join(late).select([0, 1])
    pipeline.preview(state)
    state = pipeline.restore(state.dump())
    while min(state.progress) < state.steps:
        state = pipeline.step(state)
    return pipeline.decode(state)


def apart(family: str, side: int, *, image_to_image: bool) -> int:
    start = Start([Image.new("RGB", (side, side), "red")] * len(PROMPTS), 0.6) if image_to_image else None
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        path = written(family, Path(directory))
        here = render(load_torch(path, "cpu"), side, start)
        pipeline = load_torch(path, "cpu")
        for module in modules(pipeline):
            move(module)
        with OtherDevice():
            there = render(pipeline, side, start)
    return max(int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max()) for one, other in zip(here, there, strict=True))


def modules(pipeline: object) -> list[torch.nn.Module]:
    components: dict[str, object] = getattr(pipeline, "components")  # noqa: B009 - no part of the port
    found = [component for component in components.values() if isinstance(component, torch.nn.Module)]
    assert found and DEVICE.type != "cpu"
    return found


def outcome(family: str, side: int) -> list[int] | str:
    """From noise and from an image."""
    try:
        return [apart(family, side, image_to_image=start) for start in (False, True)]
    except RuntimeError:
        return traceback.format_exc(limit=-8)


if __name__ == "__main__":
    sides = {OWN: tiny_pipeline.SIDE, **dict.fromkeys(sorted(tiny_diffusers.FAMILIES), tiny_diffusers.SIDE)}
    print(json.dumps({family: outcome(family, side) for family, side in sides.items()}))
