"""Images per second of the worker's render path on the backend that it chooses, beside a plain eager loop over the same model.

Model of ``ratios``: the base model that the repository ships (``models/base``, 7.6 million parameters), 64x64, 8 steps, guidance 3, fp32
weights, both sides with the same threads. Every render has prompts that were not seen before.

- The reference is the pipeline's own ``__call__`` in a for loop: it encodes the prompts and the empty negative prompt, and runs eagerly.
- Ours is :class:`include.worker.render.Render` with the prompt cache, so the negative prompt is encoded once, on the backend that
  ``auto`` chose after measuring (:mod:`include.worker.tuning`), which tries each and refuses those whose images differ.

The two take turns, render by render; a ratio is the median over the turns of the two times. ``table`` has images per second of each
backend by model and size, then by batch, and also of a UNet of 4.6 million parameters with random weights in a bare loop, 32x32, 8 steps.
``parity`` has, for the backend of ``ratios``, the differences from eager after a step from the same state, which must be within
``tolerance``; of finished images, of which the average over all must be within its mean; and of batched images from single ones.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor

from include.contracts.dispatch import ModelRef, RenderTask
from include.contracts.requests import ImageFormat
from include.worker.parity import deviation
from include.worker.prompt_cache import PromptCache
from include.worker.render import Beginner, Item, Render
from include.worker.tuning import attached, candidates, measure
from include.worker.verdicts import AUTO, EAGER, Verdict
from models.backends.known import BACKENDS
from models.pipelines.text_to_image import AtelierTextToImagePipeline
from models.training.base_model import load_base

STEPS, GUIDANCE = 8, 3.0
BATCHES = (1, 8)
SUBJECTS = ("red heart", "cat face", "pizza", "rocket", "red apple", "dog face", "house", "fish")


class CachedBeginner(Beginner):
    """As a lease begins its renders, with the worker's prompt cache."""

    def __init__(self) -> None:
        self.prompts = PromptCache(lambda ref: None)
        self.model = ModelRef(name="base", version="1", digest="0" * 64, source="mlflow-artifacts:/base")

    def begin(self, pipeline: Any, items: Sequence[Item]) -> Any:
        tasks = [item.task for item in items]
        encoded = self.prompts.encode(
            pipeline, self.model, [task.prompt for task in tasks], [""] * len(tasks), [task.guidance for task in tasks]
        )
        return pipeline.prepare(encoded.conditioning, [item.seed for item in items], tasks[0].width, tasks[0].height, tasks[0].steps)


@dataclass
class Base:
    """The shipped model."""

    pipeline: AtelierTextToImagePipeline
    side: int
    renders: int = 0

    def prompts(self, batch: int) -> list[str]:
        self.renders += 1
        return [f"{SUBJECTS[index % len(SUBJECTS)]} number {self.renders}" for index in range(batch)]

    def reference(self, prompts: Sequence[str]) -> list[Any]:
        return list(self.pipeline(prompts, "", STEPS, GUIDANCE, seed=1, width=self.side, height=self.side).images)

    def ours(self, prompts: Sequence[str], beginner: Beginner, first_seed: int = 1) -> list[Any]:
        items = [Item(self._task(prompt, first_seed + index), 0) for index, prompt in enumerate(prompts)]
        render = Render(self.pipeline, items, beginner)
        images = []
        while render.items:
            render.advance()
            images += [image for _, image in render.take_images()]
        return images

    def _task(self, prompt: str, seed: int) -> RenderTask:
        return RenderTask(
            request_id=f"r-{seed}",
            tenant="bench",
            prompt=prompt,
            width=self.side,
            height=self.side,
            steps=STEPS,
            guidance=GUIDANCE,
            seed=seed,
            images=1,
            image_format=ImageFormat.PNG,
        )


class BareUnet:
    """A UNet of the size that others quote figures for, in the loop of a diffusers example."""

    side = 32

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=self.side,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(64, 96, 96),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=384,
            attention_head_dim=8,
        ).eval()
        self.components = {"unet": self.unet}

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.unet.parameters())

    @torch.no_grad()
    def render(self, batch: int) -> Tensor:
        generator = torch.Generator().manual_seed(batch)
        scheduler = EulerDiscreteScheduler()
        scheduler.set_timesteps(STEPS)
        latents = torch.randn(batch, 3, self.side, self.side, generator=generator) * scheduler.init_noise_sigma
        text = torch.randn(2 * batch, 16, 384, generator=generator)
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
            negative, positive = self.unet(given, timestep, text, return_dict=False)[0].chunk(2)
            latents = scheduler.step(negative + GUIDANCE * (positive - negative), timestep, latents).prev_sample
        return latents


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def side_by_side(plain: Base, ours: Base, backend: str, turns: int) -> dict[str, Any]:
    """``plain`` eagerly by its own call, and ``ours`` by the render path on what it is attached to, turn by turn."""
    found: dict[str, Any] = {"ratios": {}, "images_per_s": {}, "parity": {}}
    beginner = CachedBeginner()
    for batch in BATCHES:
        times: list[tuple[float, float]] = []
        for turn in range(turns + 1):
            times.append(_turn(plain, ours, beginner, batch))
            print(f"batch {batch}, turn {turn}: {times[-1][0]:.3f} s plain, {times[-1][1]:.3f} s ours", file=sys.stderr)
        measured = times[1:]  # the first turn warms up
        found["ratios"][str(batch)] = round(statistics.median(theirs / mine for theirs, mine in measured), 2)
        sides = zip(("reference", "ours"), zip(*measured, strict=True), strict=True)
        found["images_per_s"][str(batch)] = {name: round(batch / statistics.median(taken), 1) for name, taken in sides}
    prompts = plain.prompts(max(BATCHES))
    images = ours.ours(prompts, beginner)
    alone = [ours.ours([prompt], beginner, first_seed=1 + index)[0] for index, prompt in enumerate(prompts)]
    found["parity"]["finished"] = deviation(images, plain.reference(prompts)).model_dump()
    found["parity"]["batch_from_single"] = deviation(images, alone).model_dump()
    found["parity"]["tolerance"] = vars(BACKENDS[backend].tolerance)
    return found


def _turn(plain: Base, ours: Base, beginner: Beginner, batch: int) -> tuple[float, float]:
    prompts = plain.prompts(batch)
    return seconds(lambda: plain.reference(prompts)), seconds(lambda: ours.ours(prompts, beginner))


def rates(verdict: Verdict, names: Sequence[str], base: Base, folder: Path) -> dict[str, dict[str, float]]:
    """Images per second by backend, then by batch, without those that were refused."""
    table: dict[str, dict[str, float]] = {}
    for name in names:
        if verdict.backends[name].refused is None:
            with attached(base.pipeline, folder, BACKENDS[name]):
                table[name] = _rates(lambda batch: base.ours(base.prompts(batch), Beginner()))
            print(f"{base.side} pixels, {name}: {table[name]}", file=sys.stderr)
    return table


def unet_rates(names: Sequence[str], folder: Path) -> dict[str, dict[str, float]]:
    bare, table = BareUnet(), {}
    for name in names:
        with attached(bare, folder, BACKENDS[name]) as attachment:
            bare.render(1)
            if name not in attachment.failed:
                table[name] = _rates(bare.render)
        print(f"UNet of {bare.parameters / 1e6:.1f} M, {name}: {table.get(name) or attachment.failed}", file=sys.stderr)
    return table


def _rates(run: Callable[[int], object], repeats: int = 3) -> dict[str, float]:
    """Images per second by batch."""
    found = {}
    for batch in BATCHES:
        run(batch)
        found[str(batch)] = round(batch / statistics.median(seconds(partial(run, batch)) for _ in range(repeats)), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--sides", default="64", help="sizes of the table for the base model; the first is that of the ratios")
    parser.add_argument("--all", action="store_true", help="measure torch-compile and others that take minutes too")
    parser.add_argument("--no-unet", action="store_true", help="leave the UNet out of the table")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), arguments)))


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    names = candidates(AUTO, "cpu")
    if arguments.all:
        names = [name for name, backend in BACKENDS.items() if name != EAGER and backend.availability("cpu").usable]
    sides = [int(side) for side in arguments.sides.split(",")]
    plain, ours = load_base(), load_base()
    found: dict[str, Any] = {}
    table: dict[str, Any] = {}
    refused: dict[str, Any] = {}
    for side in sides:
        verdict = measure(ours, folder, side, side, names)
        if not found:
            chosen = verdict.choose(AUTO)
            with attached(ours, folder, BACKENDS[chosen]):
                found = side_by_side(Base(plain, side), Base(ours, side), chosen, arguments.turns)
            found["backend"] = chosen
            compared = verdict.backends[chosen].from_eager
            found["parity"]["after_a_step"] = compared.model_dump() if compared else None
        table[f"base-{side}"] = rates(verdict, [EAGER, *names], Base(ours, side), folder)
        refused[f"base-{side}"] = {name: measured.refused for name, measured in verdict.backends.items() if measured.refused}
    if not arguments.no_unet:
        table[f"unet-{BareUnet.side}"] = unet_rates([EAGER, *names], folder / "unet")
    return {**found, "model": f"models/base, {sides[0]}x{sides[0]}, {STEPS} steps", "table": table, "refused": refused}


if __name__ == "__main__":
    main()
