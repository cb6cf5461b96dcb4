"""Trains the two-tower network that evaluations compare images by, and prompts with images.

    python -m models.training.contrastive --dataset MANIFEST [--output models/evaluator]

Symmetric InfoNCE over a batch's images and captions (Radford et al. 2021, CLIP) on the dataset's training split; the captions are
embedded by the frozen packaged encoder. Writes the network in bf16 and ``training.json`` with settings, data digest, retrieval on the
held-out split beside the chance level, and the digest of each file. The same command gives the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.two_tower import TwoTowerModel, load_two_tower
from models.pipelines.text_encoder import encode_all, load_text_encoder
from models.training.data import Chosen, choose
from models.training.encoding import as_pixels
from models.training.provenance import write_training_record
from models.training.samples.order import BatchPlan
from models.training.samples.stream import ImageBatches, ImageReader, RowGroups

EVALUATOR = Path(__file__).resolve().parent.parent / "evaluator"
MAX_BYTES = 4_000_000  #: it lives in the repository


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Settings of a training; the defaults are those of the shipped network."""

    seed: int = 7
    epochs: int = 36
    batch_size: int = 256
    learning_rate: float = 2e-3  #: highest, after the warm-up; falls along a half cosine
    warmup: float = 0.05  #: share of the steps
    weight_decay: float = 0.05
    alternative_captions: float = 0.5  #: share of the samples that are matched with another of their captions
    text_dropout: float = 0.1  #: of the pooled text states
    threads: int = 1  #: two threads wait for each other where other processes run
    network: dict[str, Any] = field(default_factory=dict)  #: arguments of the network


@dataclass(frozen=True)
class Pairs:
    """A split's images, read when they are asked for, with the embeddings of their captions."""

    samples: Chosen
    text: Tensor  #: (M, text_dim) pooled

    def __len__(self) -> int:
        return len(self.samples.groups)


def train(dataset: Path, output: Path, config: ContrastiveConfig | None = None, progress: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains, measures and writes; returns the record. Raises :class:`ValueError` for a dataset with an empty split."""
    config = config or ContrastiveConfig()
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    pairs, check = _pairs(dataset, "train"), _pairs(dataset, "validation")
    if len(pairs) < 2 or len(check) < 2:
        raise ValueError(f"dataset: {dataset} has too few samples: {len(pairs)} to train on, {len(check)} held out")
    network = TwoTowerModel(**{"sample_size": pairs.samples.groups.blocks[0].size[0], **config.network})
    started = time.monotonic()
    _fit(network, pairs, config, progress)
    metrics = retrieval(network.eval(), check)
    progress(f"held out: {metrics}")
    facts = {
        "seed": config.seed,
        "config": asdict(config),
        "dataset_digest": pairs.samples.groups.digest,
        "samples": {"train": len(pairs), "held_out": len(check)},
        "seconds": round(time.monotonic() - started, 1),
        "metrics": metrics,
        "files": _save(network, output),
    }
    write_training_record(output, facts)
    return facts


def _pairs(dataset: Path, split: str) -> Pairs:
    samples = choose(RowGroups(dataset, split))
    if len(set(samples.sizes())) > 1:
        raise ValueError(f"dataset: the images of {dataset} must be of one size")
    return Pairs(samples, encode_all(*load_text_encoder(), samples.texts, 1).pooled)


def _fit(network: TwoTowerModel, pairs: Pairs, config: ContrastiveConfig, progress: Callable[[str], None]) -> None:
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    batch_size = min(config.batch_size, len(pairs))
    steps = max(1, config.epochs * len(pairs) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps, config.warmup))
    plan = BatchPlan(pairs.samples.groups.blocks, pairs.samples.kept, batch_size, config.seed)
    images = ImageBatches(pairs.samples.groups, plan)
    losses, started = [], time.monotonic()
    for step in range(steps):
        pixels, text = _augmented(as_pixels(images.at(step)), pairs, plan.at(step), config, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = info_nce(network.embed_images(pixels), network.embed_texts(text), network.log_scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            left = (steps - step - 1) * (time.monotonic() - started) / (step + 1)
            progress(f"step {step + 1}/{steps} loss {np.mean(losses[-50:]):.3f} eta {left:.0f} s")


def _rate(done: float, warmup: float) -> float:
    return done / warmup if done < warmup else 0.5 + 0.5 * float(np.cos(np.pi * (done - warmup) / (1 - warmup)))


def _augmented(pixels: Tensor, pairs: Pairs, indices: np.ndarray, config: ContrastiveConfig, step: int) -> tuple[Tensor, Tensor]:
    """Augmented images in -1..1 and pooled text, a function of the step."""
    draw = np.random.default_rng((config.seed, step, 1))
    rows = [_caption(pairs.samples.captions[index], config.alternative_captions, draw) for index in indices.tolist()]
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    text = pairs.text[rows]
    kept = torch.rand(text.shape, generator=generator) >= config.text_dropout
    return augment(pixels, generator), text * kept / (1 - config.text_dropout)


def _caption(rows: Sequence[int], alternative: float, draw: np.random.Generator) -> int:
    share, which = draw.random(2)
    return rows[1 + int(which * (len(rows) - 1))] if len(rows) > 1 and share < alternative else rows[0]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moved, scaled, turned a little, brighter or darker, with one square blanked: what does not change what a drawing shows.

    Not mirrored, since captions tell left from right.
    """
    count = len(images)
    draw = torch.rand(count, 7, generator=generator) * 2 - 1
    scale, angle = 1 + 0.2 * draw[:, 0], 0.2 * draw[:, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [cosine, -sine, 0.15 * draw[:, 2], sine, cosine, 0.15 * draw[:, 3]]
    grid = F.affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    place = torch.linspace(-1, 1, images.shape[-1])
    blank = ((place - draw[:, 4:5]).abs() < 0.2)[:, None, :, None] & ((place - draw[:, 5:6]).abs() < 0.2)[:, None, None, :]
    return torch.where(blank, torch.ones(()), moved * (1 + 0.1 * draw[:, 6]).view(-1, 1, 1, 1))


def info_nce(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    """Cross-entropy of each row's partner among all of the batch, both ways; rows ``(B, d)`` of length one."""
    logits = log_scale.clamp(max=4.6052).exp() * images @ texts.T  # at most 100, as in CLIP
    partner = torch.arange(len(images))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


@torch.no_grad()
def retrieval(network: TwoTowerModel, pairs: Pairs) -> dict[str, float]:
    """How often an image's main caption is its nearest, or one of the five nearest, and the other way round, beside chance."""
    samples, count = pairs.samples, len(pairs)
    reader = ImageReader(samples.groups, 1)
    parts = [range(start, min(start + 256, count)) for start in range(0, count, 256)]
    images = torch.cat([network.embed_images(as_pixels(reader.read(part))) for part in parts])
    similarity = images @ network.embed_texts(pairs.text[[samples.captions[index][0] for index in range(count)]]).T
    measured: dict[str, float] = {}
    for way, scores in (("text", similarity), ("image", similarity.T)):
        better = (scores > scores.diagonal()[:, None]).sum(dim=1)
        measured |= {f"{way}_recall_at_{top}": round((better < top).float().mean().item(), 4) for top in (1, 5)}
    return {**measured, **{f"chance_at_{top}": round(min(1.0, top / len(pairs)), 4) for top in (1, 5)}}


def _save(network: TwoTowerModel, output: Path) -> dict[str, str]:
    """Digest by name of the files written. Raises :class:`ValueError` where they are too large to ship."""
    torch.nn.Module.to(network, torch.bfloat16)
    network.save_pretrained(str(output / "network"), safe_serialization=True)
    paths = sorted((output / "network").iterdir())
    if (size := sum(path.stat().st_size for path in paths)) > MAX_BYTES:
        raise ValueError(f"network: the files have {size} bytes; at most {MAX_BYTES} are shipped")
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.training.contrastive", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="manifest.json of a dataset version")
    parser.add_argument("--output", type=Path, default=EVALUATOR)
    parser.add_argument("--epochs", type=int, default=ContrastiveConfig.epochs)
    options = parser.parse_args()
    record = train(options.dataset, options.output, ContrastiveConfig(epochs=options.epochs), partial(print, flush=True))
    load_two_tower(options.output)
    print(json.dumps(record["metrics"]))


if __name__ == "__main__":
    main()
