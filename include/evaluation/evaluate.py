"""Evaluates a pipeline directory on a dataset version. Metrics are named for what they are:

- ``held_out_loss``: velocity error on samples that were not trained on;
- ``kernel_distance`` and ``kernel_distance_error``: between images rendered for training captions and the images those captions are of, on
  the features of the network that the fact ``features`` names;
- ``own_image_top1``, ``own_image_top5``: how often the nearest training images of a rendered one include that of its caption. Chance is
  one, or five, in ``prompts``. It says whether prompts are followed, and counts recall of what was learned, not invention;
- ``prompt_agreement`` and its error, to be read between ``prompt_agreement_shuffled`` and ``prompt_agreement_true``;
- ``diversity``: effective number of different images among the rendered ones, beside ``diversity_true`` of the true images;
- ``pairwise_distance``: mean distance between two of them;
- ``memorised_share`` and its error: rendered images nearer to a training image than held-out images are (``memorised_threshold``);
- ``leaked_samples``: held-out samples of which a near copy was trained on; absent where that can't be known;
- ``seconds_per_image``, with ``_p50`` and ``_p95``: on this machine, at ``steps`` steps, ``batch_size`` images at a time.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from include.evaluation.agreement import prompt_agreement
from include.evaluation.distances import kernel_distance, kernel_distance_error, own_image_rate
from include.evaluation.diversity import mean_pairwise_distance, vendi_score
from include.evaluation.leakage import leaked_samples
from include.evaluation.memorisation import QUANTILE, Memorisation, memorisation
from include.evaluation.networks import FeatureNet, load_network
from include.evaluation.rendering import render, side_by_side
from models.pipelines.text_to_image import AtelierTextToImagePipeline, load_pipeline
from models.training.base_model import BASE_CONFIG
from models.training.config import TrainingConfig, load_config
from models.training.data import load_encoded
from models.training.grid import image_grid
from models.training.held_out import held_out_loss
from models.training.samples import Split, load_split, one_a_caption, read_manifest

#: By source of the dataset, where the settings don't say: of OpenMoji what the base model left out as well.
EXCLUDED = {"openmoji": load_config(BASE_CONFIG).exclude}
BESIDE = 4  #: images of a render by which two speeds are compared
SHEET_COLUMNS, SHEET_ROWS = 12, 2  #: pairs of the sheet of nearest training images
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
    network: str = Field(
        "", max_length=4096, description="Directory of a two-tower network, a CLIP or an Inception v3 to measure with; empty: the shipped."
    )

    def render_options(self) -> dict[str, Any]:
        return {"steps": self.steps, "guidance": self.guidance, "seed": self.seed, "batch_size": self.batch_size}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    metrics: dict[str, float]
    facts: dict[str, Any]  #: what the metrics were measured on: networks, machine, dataset digest, settings
    grid: str  #: path of a PNG of the grid prompts
    sheet: str  #: path of a PNG of rendered images above their nearest training images
    path: str  #: path of this report as JSON
    leaks: list[tuple[str, str]] = field(default_factory=list)  #: held-out sample and its near copy that was trained on


def evaluate_pipeline(
    pipeline_directory: Path | str,
    manifest: Path | str,
    output: Path | str,
    config: EvaluationConfig | None = None,
    progress: Callable[[str], None] = print,
    trained_on: Path | str | None = None,
    rival: tuple[str, Path] | None = None,
) -> EvaluationReport:
    """Measures everything above.

    :param trained_on: manifest of the version that it was trained on, where that is another one
    :param rival: name and directory of a pipeline whose speed is measured beside it; the fact ``beside`` has both
    :raises ValueError: the dataset leaves fewer than four samples to compare with, or has none held out
    """
    config = _completed(config or EvaluationConfig(), manifest)
    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(pipeline_directory, torch.bfloat16 if config.precision == "bf16" else torch.float32)
    loss = _held_out(pipeline, manifest, config)
    progress(f"held-out loss {loss:.4f}")
    train = load_split(manifest, "train")
    seen = load_split(trained_on, "train") if trained_on and Path(trained_on) != Path(manifest) else train
    reference = _reference(train.without(config.exclude or ""), config)
    prompts = [captions[0] for captions in reference.captions]
    rendered = render(pipeline, prompts, **config.render_options(), progress=progress)
    network = load_network(config.network)
    copies = _memorisation(network, rendered.images, seen, load_split(manifest, "validation"))
    leaks = leaked_samples(manifest, trained_on or manifest)
    metrics = {
        "held_out_loss": loss,
        **rendered.speed(),
        **compare(rendered.images, reference.images, network),
        **prompt_agreement(network, rendered.images, reference.images, prompts),
        **_copied(copies),
        **({} if leaks is None else {"leaked_samples": float(len(leaks))}),
    }
    progress(f"{network.name}: kernel distance {metrics['kernel_distance']:.4f}, prompt agreement {metrics['prompt_agreement']:.3f}")
    beside = _beside(pipeline, rival, prompts, config)
    facts = {
        **beside,
        "features": network.name,
        "agreement": network.agreement_name,
        **_facts(reference, config),
        "memorised_quantile": QUANTILE,
    }
    report = EvaluationReport(
        metrics=metrics,
        facts=facts,
        grid=_save_grid(pipeline, config, output / "grid.png"),
        sheet=_save_sheet(rendered.images, seen, copies, output / "nearest.png"),
        path=str(output / "evaluation.json"),
        leaks=leaks or [],
    )
    Path(report.path).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report


def _beside(
    pipeline: AtelierTextToImagePipeline, rival: tuple[str, Path] | None, prompts: list[str], config: EvaluationConfig
) -> dict[str, Any]:
    """Seconds an image of both, measured in turns; empty without a rival."""
    if rival is None:
        return {}
    name, directory = rival
    other = load_pipeline(directory, pipeline.network.dtype)
    found = side_by_side({"own": pipeline, "rival": other}, prompts[:BESIDE], steps=config.steps, guidance=config.guidance)
    return {"beside": {"version": name, **found}}


def machine() -> str:
    """What the speed was measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def _facts(reference: Split, config: EvaluationConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    place = {"machine": machine(), "threads": torch.get_num_threads()}
    return {"dataset_digest": reference.digest, "rendered": len(reference), **place, "config": settings}


def _completed(config: EvaluationConfig, manifest: Path | str) -> EvaluationConfig:
    if config.exclude is not None:
        return config
    return config.model_copy(update={"exclude": EXCLUDED.get(read_manifest(manifest)["config"]["source"], "")})


def compare(rendered: np.ndarray, reference: np.ndarray, network: FeatureNet) -> dict[str, float]:
    """Distances between ``(N, H, W, 3)`` uint8 images and the images of the same captions, and how much each set differs in itself."""
    first, second = network.features(rendered), network.features(reference)
    return {
        "kernel_distance": kernel_distance(first, second, paired=True),
        "kernel_distance_error": kernel_distance_error(first, second, paired=True),
        "own_image_top1": own_image_rate(first, second, 1),
        "own_image_top5": own_image_rate(first, second, 5),
        "diversity": vendi_score(first),
        "diversity_true": vendi_score(second),
        "pairwise_distance": mean_pairwise_distance(first),
    }


def _memorisation(network: FeatureNet, rendered: np.ndarray, train: Split, held_out: Split) -> Memorisation:
    return memorisation(network.features(rendered), network.features(train.images), network.features(held_out.images))


def _copied(copies: Memorisation) -> dict[str, float]:
    measured = {"memorised_share": copies.share, "memorised_share_error": copies.share_error}
    return {**measured, "memorised_threshold": copies.threshold}


def _held_out(pipeline: AtelierTextToImagePipeline, manifest: Path | str, config: EvaluationConfig) -> float:
    length = pipeline.network.config.text_length
    choice = TrainingConfig(exclude=config.exclude or "")
    data = load_encoded(manifest, "validation", choice, pipeline.text_encoder, pipeline.tokenizer, length, config.held_out)
    return held_out_loss(pipeline.network, data.images, data.text.to(pipeline.network.dtype))


def _reference(train: Split, config: EvaluationConfig) -> Split:
    """Training samples chosen by the seed, each with a caption of its own: two drawings of one name could not be told apart."""
    chosen = list(one_a_caption(train, config.seed).values())[: config.prompts]
    if len(chosen) < 4:
        raise ValueError(f"exclude: only {len(chosen)} training samples are left; four are needed")
    return train.subset(chosen)


def _save_grid(pipeline: AtelierTextToImagePipeline, config: EvaluationConfig, path: Path) -> str:
    rendered = render(pipeline, config.grid_prompts, **config.render_options())
    image_grid([Image.fromarray(image) for image in rendered.images]).save(path)
    return str(path)


def _save_sheet(rendered: np.ndarray, train: Split, copies: Memorisation, path: Path) -> str:
    """The rendered images that are nearest to a training image, each above that one, the nearest first."""
    order = np.argsort(copies.distances, kind="stable")[: SHEET_ROWS * SHEET_COLUMNS]
    tiles: list[Image.Image] = []
    for start in range(0, len(order), SHEET_COLUMNS):
        row = order[start : start + SHEET_COLUMNS]
        blank = [Image.new("RGB", (rendered.shape[2], rendered.shape[1]), "white")] * (SHEET_COLUMNS - len(row))
        tiles += [Image.fromarray(rendered[index]) for index in row] + blank
        tiles += [Image.fromarray(train.images[copies.nearest[index]]).resize(tiles[0].size) for index in row] + blank
    image_grid(tiles, columns=SHEET_COLUMNS, scale=1).save(path)
    return str(path)
