"""What the worker costs beside the render itself: 50 leases through Kafka, the worker and the store, against the pipeline in a bare loop.

The shipped base model at 64 px, 12 steps with guidance, one image a render, one CPU thread on both sides. The worker is a process of its
own, holds two leases at a time as the router would let it, reports progress, writes previews, encodes PNG files and stores them. Blocks of
both sides take turns, in either order, so that a noisy machine is noisy to both.

- ``ratio``: wall time of a block through the worker over that of the bare loop beside it, median of the blocks; ``ratio_of_totals``: of
  all blocks together.
- ``worker_s``, ``bare_s``: wall time of a render, by the median block.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from include.config import Settings
from include.contracts.dispatch import ModelRef
from models.pipelines.text_to_image import AtelierTextToImagePipeline, load_pipeline
from tests.support.worker_bench import SIZE, Hand, broker, install_base, task

STEPS = 12
HELD = 2  #: leases at a time


def serve(settings: Settings) -> None:
    from include.worker.run import run_worker
    from include.worker.service import WorkerOptions

    run_worker(settings, WorkerOptions(pool="standard", worker_id="worker-0", max_items=1))


def negative(prompt: str) -> str:
    """One of its own, so that the worker's cache of embeddings saves it nothing that the bare loop does."""
    return f"nothing like {prompt}"


def bare(pipeline: AtelierTextToImagePipeline, prompts: list[str]) -> float:
    began = time.perf_counter()
    for seed, prompt in enumerate(prompts):
        pipeline(prompt, negative(prompt), num_inference_steps=STEPS, guidance_scale=3.0, seed=seed, width=SIZE, height=SIZE)
    return time.perf_counter() - began


def through_worker(hand: Hand, model: ModelRef, prompts: list[str]) -> float:
    leases = [hand.lease(task(prompt, steps=STEPS, negative_prompt=negative(prompt)), model=model) for prompt in prompts]
    began = time.perf_counter()
    coming = iter(leases)
    for lease in itertools.islice(coming, HELD):
        hand.send(lease)
    for _ in leases:
        hand.wait(lambda message: message.kind == "completed")
        if (following := next(coming, None)) is not None:
            hand.send(following)
    return time.perf_counter() - began


def block(
    hand: Hand, model: ModelRef, pipeline: AtelierTextToImagePipeline, prompts: list[str], *, worker_first: bool
) -> tuple[float, float]:
    """Seconds of the worker and of the bare loop for the same prompts."""
    if worker_first:
        return through_worker(hand, model, prompts), bare(pipeline, prompts)
    theirs = bare(pipeline, prompts)
    return through_worker(hand, model, prompts), theirs


def measure(blocks: int, size: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as settings:
        model = install_base(settings)
        pipeline = load_pipeline(settings.home / "models" / model.digest)
        hand = Hand(settings)
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings,))
        process.start()
        try:
            hand.wait_hello()
            through_worker(hand, model, ["warm", "up"])
            bare(pipeline, ["warm", "up"])
            pairs = []
            for number in range(blocks):
                prompts = [f"a red heart, number {number * size + index}" for index in range(size)]  # none that a cache knows
                pairs.append(block(hand, model, pipeline, prompts, worker_first=number % 2 == 0))
                print(f"block {number}: {pairs[-1][0]:.2f} s through the worker, {pairs[-1][1]:.2f} s bare", file=sys.stderr)
        finally:
            process.terminate()
            process.join(60)
            hand.close()
    return summary(pairs, size)


def summary(pairs: list[tuple[float, float]], size: int) -> dict[str, Any]:
    ours, theirs = zip(*pairs, strict=True)
    return {
        "ratio": round(statistics.median(one / other for one, other in pairs), 4),
        "ratio_of_totals": round(sum(ours) / sum(theirs), 4),
        "worker_s": round(statistics.median(ours) / size, 4),
        "bare_s": round(statistics.median(theirs) / size, 4),
        "renders": size * len(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10, help="of each side, taking turns")
    parser.add_argument("--size", type=int, default=5, help="renders in a block")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.blocks, arguments.size)))


if __name__ == "__main__":
    main()
