"""An adapter for the product's own network: trained, resumed, served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models.pipelines.loading import load_text_to_image
from models.training.config import TrainingConfig
from models.training.families.load import load_family
from models.training.lora import METADATA, WEIGHTS, add_adapters
from models.training.status import ExitStatus
from models.training.train_text_to_image import main
from tests.support.device import DEVICE
from tests.support.tiny_pipeline import write_tiny_pipeline

Arguments = Callable[..., list[str]]
LORA = {
    "method": "lora", "lora_rank": 2, "lora_alpha": 4, "learning_rate": 0.1, "ema_decay": 0.0, "max_steps": 3, "sample_prompts": [],
    "precision": "fp32", "validation_samples": 2,
}  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("base") / "pipeline", text_length=8)


def test_only_the_adapter_is_trained_and_the_worker_serves_it(arguments: Arguments, base: Path, tmp_path: Path) -> None:
    assert main(arguments("run", "--init", str(base), **LORA)) == 0
    adapter = tmp_path / "run" / "adapter"
    names = load_file(adapter / WEIGHTS)
    assert all(name.startswith("transformer.") and (".lora_A.weight" in name or ".lora_B.weight" in name) for name in names)
    assert {name.split(".lora_")[0].split(".")[-1] for name in names} == {"qkv", "out"}
    with safe_open(adapter / WEIGHTS, "pt") as file:
        assert json.loads(file.metadata()[METADATA])["transformer.lora_alpha"] == 4
    pipeline = load_text_to_image(base, DEVICE)
    images = [step(view) for view in (pipeline, pipeline.with_adapters([(adapter, 1.0)]))]
    assert not torch.equal(*images)
    assert json.loads((tmp_path / "run" / "training.json").read_text())["method"] == "lora"


def step(pipeline: object) -> torch.Tensor:
    state = pipeline.prepare(pipeline.encode(["red square"], [""], [1.0]), [0], 16, 16, 2)  # type: ignore[attr-defined]
    return pipeline.step(state).latents  # type: ignore[attr-defined]


def test_what_was_trained_is_what_is_served(arguments: Arguments, base: Path, tmp_path: Path) -> None:
    """The adapter on the base gives the velocity of the network as it was trained: names, scale and layers all fit."""

    assert main(arguments("run", "--init", str(base), **LORA)) == 0
    config = TrainingConfig.model_validate(LORA)
    network = load_family(config, str(base)).network
    add_adapters(network, config, ("attention.qkv", "attention.out"))
    saved = load_file(tmp_path / "run" / "adapter" / WEIGHTS)
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            weight.data.copy_(saved["transformer." + name.replace(".default.", ".")])
    served = load_text_to_image(base, DEVICE)
    view = served.with_adapters([(tmp_path / "run" / "adapter", 1.0)])
    expected = step(view)
    served.pipeline.network = network.eval()
    assert torch.allclose(step(served.pipeline), expected, atol=1e-5)


def test_layers_that_are_not_there_are_named(arguments: Arguments, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("run", "--init", str(base), **{**LORA, "lora_targets": ["to_q"]})) == ExitStatus.INVALID
    assert "lora_targets: " in capsys.readouterr().err
