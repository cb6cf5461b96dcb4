"""Evaluates a pipeline directory on a dataset version. Metrics are named for what they are:

- ``held_out_loss``: velocity error on samples that were not trained on;
- ``kernel_distance`` and ``kernel_distance_error``: between images rendered for training captions and the images those captions are of, on
  the features that ``features`` names;
- ``own_image_top1``, ``own_image_top5``: how often the nearest training images of a rendered one include that of its caption. Chance is
  one, or five, in ``prompts``. It says whether prompts are followed, and counts recall of what was learned, not invention;
- ``seconds_per_image``: on this machine, at ``steps`` steps, ``batch_size`` images at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from include.evaluation.distances import kernel_distance, kernel_distance_error, own_image_rate
from include.evaluation.features import FEATURES, colour_edge_features
from models.pipelines.text_to_image import AtelierTextToImagePipeline, load_pipeline
from models.training.base_model import BASE_CONFIG
from models.training.config import TrainingConfig, load_config
from models.training.data import load_encoded
from models.training.grid import image_grid
from models.training.held_out import held_out_loss
from models.training.samples import Split, epoch_order, load_split, read_manifest

#: By source of the dataset, where the settings don't say: of OpenMoji what the base model left out as well.
EXCLUDED = {"openmoji": load_config(BASE_CONFIG).exclude}
GRID_PROMPTS = ("red heart", "cat face", "pizza", "rocket", "sun with face", "red apple", "grinning face", "umbrella")


class EvaluationConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompts: int = Field(32, ge=4, le=10_000, description="Training captions that are rendered.")
    held_out: int = Field(64, ge=1, le=100_000, description="Held-out samples at most.")
    steps: int = Field(12, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(3.0, ge=0, le=30, description="Guidance scale.")
    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="Arithmetic of the network; bf16 is three times as fast where the CPU has it."
    )
    batch_size: int = Field(16, ge=1, le=256, description="Images rendered at a time.")
    seed: int = Field(0, ge=0, lt=2**31, description="Chooses captions and noise.")
    exclude: str | None = Field(None, description="Samples whose key or a caption matches are not used; empty means what EXCLUDED says.")
    grid_prompts: tuple[str, ...] = Field(GRID_PROMPTS, min_length=1, description="Prompts of the sample grid.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads; 0 leaves it to PyTorch.")


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    metrics: dict[str, float]
    facts: dict[str, Any]  #: what the metrics were measured on: features, dataset digest, settings
    grid: str  #: path of a PNG of the grid prompts
    path: str  #: path of this report as JSON


def evaluate_pipeline(
    pipeline_directory: Path | str,
    manifest: Path | str,
    output: Path | str,
    config: EvaluationConfig | None = None,
    progress: Callable[[str], None] = print,
) -> EvaluationReport:
    """Raises :class:`ValueError` when the dataset leaves fewer than four samples to compare with."""
    config = _completed(config or EvaluationConfig(), manifest)
    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(pipeline_directory, torch.bfloat16 if config.precision == "bf16" else torch.float32)
    loss = _held_out(pipeline, manifest, config)
    progress(f"held-out loss {loss:.4f}")
    reference = _reference(manifest, config)
    started = time.monotonic()
    rendered = _render(pipeline, [captions[0] for captions in reference.captions], config, progress)
    metrics = {
        "held_out_loss": loss,
        "seconds_per_image": (time.monotonic() - started) / len(rendered),
        **compare(rendered, reference.images),
    }
    grid = output / "grid.png"
    image_grid([Image.fromarray(image) for image in _render(pipeline, list(config.grid_prompts), config, lambda _: None)]).save(grid)
    facts = {"features": FEATURES, "dataset_digest": reference.digest, "rendered": len(rendered), "config": config.model_dump(mode="json")}
    report = EvaluationReport(metrics=metrics, facts=facts, grid=str(grid), path=str(output / "evaluation.json"))
    Path(report.path).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report


def _completed(config: EvaluationConfig, manifest: Path | str) -> EvaluationConfig:
    if config.exclude is not None:
        return config
    return config.model_copy(update={"exclude": EXCLUDED.get(read_manifest(manifest)["config"]["source"], "")})


def compare(rendered: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Distances between ``(N, H, W, 3)`` uint8 images and the images of the same captions."""
    first, second = colour_edge_features(rendered), colour_edge_features(reference)
    return {
        "kernel_distance": kernel_distance(first, second),
        "kernel_distance_error": kernel_distance_error(first, second),
        "own_image_top1": own_image_rate(first, second, 1),
        "own_image_top5": own_image_rate(first, second, 5),
    }


def _held_out(pipeline: AtelierTextToImagePipeline, manifest: Path | str, config: EvaluationConfig) -> float:
    length = pipeline.network.config.text_length
    choice = TrainingConfig(exclude=config.exclude or "")
    data = load_encoded(manifest, "validation", choice, pipeline.text_encoder, pipeline.tokenizer, length, config.held_out)
    text = data.main_text(np.arange(len(data))).to(pipeline.network.dtype)
    return held_out_loss(pipeline.network, data.pixels(slice(None)), text)


def _reference(manifest: Path | str, config: EvaluationConfig) -> Split:
    """Training samples chosen by the seed, each with a caption of its own: two drawings of one name could not be told apart."""
    samples = load_split(manifest, "train").without(config.exclude or "")
    unique = {samples.captions[index][0]: int(index) for index in epoch_order(len(samples), config.seed, 0)}
    chosen = list(unique.values())[: config.prompts]
    if len(chosen) < 4:
        raise ValueError(f"exclude: only {len(chosen)} training samples are left; four are needed")
    return samples.subset(chosen)


def _render(
    pipeline: AtelierTextToImagePipeline, prompts: list[str], config: EvaluationConfig, progress: Callable[[str], None]
) -> np.ndarray:
    images: list[Image.Image] = []
    for start in range(0, len(prompts), config.batch_size):
        batch = prompts[start : start + config.batch_size]
        seed = config.seed + start
        images += pipeline(batch, num_inference_steps=config.steps, guidance_scale=config.guidance, seed=seed).images
        progress(f"rendered {len(images)} of {len(prompts)}")
    return np.stack([np.asarray(image) for image in images])
