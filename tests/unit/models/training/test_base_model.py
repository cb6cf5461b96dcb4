from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from models.training.base_model import BASE, export, load_base, load_base_network
from models.training.train_text_to_image import main
from tests.unit.models.conftest import TINY


@pytest.fixture
def config(tmp_path: Path) -> Path:
    settings = {"max_steps": 2, "batch_size": 4, "threads": 1, "network": TINY, "sample_prompts": ["red square"], "sample_steps": 2}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "base.yaml"


def test_a_run_is_exported_and_loaded(config: Path, manifest: Path, tmp_path: Path) -> None:
    assert main(["--config", str(config), "--dataset", str(manifest), "--output", str(tmp_path / "run")]) == 0
    figures = export(tmp_path / "run", manifest, tmp_path / "base", config)
    record = json.loads((tmp_path / "base" / "training.json").read_text())
    assert figures["steps"] == record["steps"] == 2
    assert record["metrics"]["held_out_loss"] > 0
    pipeline = load_base(tmp_path / "base")
    assert pipeline.network.dtype == torch.float32
    assert pipeline("red square", num_inference_steps=2).images[0].size == (16, 16)
    weights = tmp_path / "base" / "network" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ValueError, match="digest differs"):
        load_base_network(tmp_path / "base")


def test_a_run_without_a_checkpoint_can_not_be_exported(config: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        export(tmp_path / "nothing", manifest, tmp_path / "base", config)


def test_the_shipped_checkpoint_draws_a_red_heart_redder_than_a_blue_one() -> None:
    record = json.loads((BASE / "training.json").read_text())
    assert sum((BASE / name).stat().st_size for name in record["files"]) <= 16_000_000
    red, blue = load_base()(["red heart", "blue heart"], num_inference_steps=8).images
    redness = [sum(image.resize((1, 1)).getpixel((0, 0))[channel] * sign for channel, sign in ((0, 1), (2, -1))) for image in (red, blue)]
    assert redness[0] > redness[1] + 20
