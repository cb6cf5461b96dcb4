from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from include.dataset.config import DatasetConfig
from include.dataset.shards import plan_shards, prepare_shard
from include.dataset.versions import publish_version
from include.evaluation.evaluate import EvaluationConfig, compare, evaluate_pipeline
from include.evaluation.leakage import leaked_samples
from include.evaluation.networks import load_network
from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_to_image import assemble, save_pipeline
from models.training.samples import load_split


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    (root / "images").mkdir()
    for index in range(16):
        patches = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)  # shifted squares would be near copies
        image = Image.fromarray(patches).resize((16, 16), Image.Resampling.NEAREST)
        image.save(root / "images" / f"{index:02d}.png")
        (root / "images" / f"{index:02d}.txt").write_text(f"square {index}")
    config = DatasetConfig(name="squares", source="folder", path=root / "images", size=16, validation=0.3)
    return Path(publish_version([prepare_shard(plan) for plan in plan_shards(config, root / "datasets")], root / "datasets").manifest)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = HourglassTransformer2DModel(sample_size=16, patch_size=2, outer_dim=16, inner_dim=32, inner_depth=1, head_dim=16)
    return save_pipeline(assemble(network), tmp_path_factory.mktemp("pipeline"))


CONFIG = EvaluationConfig(prompts=6, held_out=4, steps=2, batch_size=4, grid_prompts=("square 1", "square 9"), exclude="", threads=1)


def test_metrics_facts_and_a_grid(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    report = evaluate_pipeline(pipeline, manifest, tmp_path, CONFIG, lines.append)
    assert set(report.metrics) == {
        "held_out_loss", "kernel_distance", "kernel_distance_error", "own_image_top1", "own_image_top5",
        "prompt_agreement", "prompt_agreement_error", "prompt_agreement_true", "prompt_agreement_shuffled",
        "diversity", "diversity_true", "pairwise_distance", "memorised_share", "memorised_share_error", "memorised_threshold",
        "leaked_samples", "seconds_per_image", "seconds_per_image_p50", "seconds_per_image_p95",
    }  # fmt: skip
    assert report.facts["features"] == load_network().name
    assert report.metrics["leaked_samples"] == 0
    assert report.metrics["held_out_loss"] > 0
    assert report.facts["rendered"] == 6
    assert json.loads(Path(report.path).read_text())["metrics"] == report.metrics
    with Image.open(report.grid) as grid, Image.open(report.sheet) as sheet:
        assert grid.width > 2 * 16
        assert sheet.width > sheet.height > 2 * 16
    assert "rendered 6 of 6" in lines


def test_the_same_evaluation_gives_the_same_quality(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    first, second = (evaluate_pipeline(pipeline, manifest, tmp_path / name, CONFIG, lambda _: None).metrics for name in "ab")
    assert {name: value for name, value in first.items() if not name.startswith("seconds")} == {
        name: value for name, value in second.items() if not name.startswith("seconds")
    }


def test_the_images_themselves_compare_best(manifest: Path) -> None:
    images = load_split(manifest, "train").images
    network = load_network()
    own, mixed = compare(images, images, network), compare(images[::-1].copy(), images, network)
    assert own["own_image_top1"] == 1 > mixed["own_image_top1"]
    assert own["diversity"] == own["diversity_true"]
    assert compare(np.full_like(images, 255), images, network)["kernel_distance"] > own["kernel_distance"]


def test_too_little_to_compare_with_is_an_error(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    few = CONFIG.model_copy(update={"exclude": r"square (?!10$|11$)"})
    with pytest.raises(ValueError, match="exclude"):
        evaluate_pipeline(pipeline, manifest, tmp_path, few)


def test_leaks_are_found_between_versions(manifest: Path) -> None:
    held_out = load_split(manifest, "validation").keys
    assert leaked_samples(manifest, manifest) == []
    swapped = manifest.with_name("swapped.json")
    content = json.loads(manifest.read_text())
    content["files"] = {"train": content["files"]["validation"], "validation": content["files"]["train"]}
    swapped.write_text(json.dumps(content))
    assert leaked_samples(manifest, swapped) == [(key, key) for key in held_out]


def test_a_rival_s_speed_is_measured_beside_it(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    report = evaluate_pipeline(pipeline, manifest, tmp_path, CONFIG, lambda _: None, rival=("7", pipeline))
    beside = report.facts["beside"]
    assert beside["version"] == "7" and beside["own"] > 0 and beside["rival"] > 0


def test_without_a_rival_nothing_is_said_of_one(pipeline: Path, manifest: Path, tmp_path: Path) -> None:
    assert "beside" not in evaluate_pipeline(pipeline, manifest, tmp_path, CONFIG, lambda _: None).facts
