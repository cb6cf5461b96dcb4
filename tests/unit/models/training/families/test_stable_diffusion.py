"""Stable Diffusion trained in full and by an adapter, from a tiny pipeline of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from models.pipelines.loading import load_text_to_image
from models.training import encoding
from models.training.config import TrainingConfig
from models.training.encoded_cache import EncodedCache
from models.training.families.stable_diffusion import AutoencoderMeans, StableDiffusionFamily
from models.training.samples import Split, load_split
from models.training.train_text_to_image import main
from tests.support.device import DEVICE
from tests.support.tiny_diffusers import use_scheduler, write_tiny_diffusers

Arguments = Callable[..., list[str]]
SHORT = {"max_steps": 2, "validation_samples": 4, "sample_prompts": [], "optimizer": "adamw", "precision": "fp32"}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_diffusers("stable-diffusion", tmp_path_factory.mktemp("source") / "pipeline")


def rendered(directory: Path, adapter: Path | None = None) -> torch.Tensor:
    """Latents of one step of what the worker would load."""
    pipeline = load_text_to_image(directory, DEVICE)
    view = pipeline.with_adapters([(adapter, 1.0)]) if adapter else pipeline
    state = view.prepare(view.encode(["a red square"], [""], [1.0]), [0], 16, 16, 2)
    return view.step(state).latents


def test_all_of_it_is_trained_and_served(arguments: Arguments, source: Path, tmp_path: Path) -> None:
    assert main(arguments("full", "--init", str(source), **{**SHORT, "sample_prompts": ["red square"]})) == 0
    assert not torch.equal(rendered(tmp_path / "full" / "pipeline"), rendered(source))
    record = json.loads((tmp_path / "full" / "training.json").read_text())
    assert (record["exported"], record["defaults"]["width"]) == ("pipeline", 16)
    assert (tmp_path / "full" / "samples" / "step-000002.png").exists()


def test_an_adapter_is_trained_and_served_beside_the_untouched_weights(arguments: Arguments, source: Path, tmp_path: Path) -> None:
    changes = {**SHORT, "method": "lora", "learning_rate": 0.1, "lora_rank": 2, "ema_decay": 0.0}
    assert main(arguments("lora", "--init", str(source), **changes)) == 0
    assert not (tmp_path / "lora" / "pipeline").exists()
    changed = rendered(source, tmp_path / "lora" / "adapter")
    assert not torch.equal(changed, rendered(source))


def test_velocity_prediction_is_told_from_the_pipelines_own_schedule(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    use_scheduler(copy, DDIMScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear", clip_sample=False, steps_offset=1))
    objective = StableDiffusionFamily.load(copy).objective(TrainingConfig())
    assert objective.prediction == "v_prediction"
    reference = DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(objective.alphas_cumprod, reference)


def test_latents_are_kept_by_content_and_an_edited_image_is_encoded_alone(
    source: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coder = StableDiffusionFamily.load(source).images
    said: list[str] = []
    monkeypatch.setattr(encoding, "EncodedCache", partial(EncodedCache, say=said.append))
    split = load_split(manifest, "validation")
    digests = list(split.keys)
    first = latents_of(split, digests, coder, tmp_path)
    pixels = split.images.copy()
    pixels[0] = 255 - pixels[0]
    said.clear()
    second = latents_of(replace(split, images=pixels), ["edited", *digests[1:]], coder, tmp_path)
    assert said == [f"latents: 1 of {len(split)} are encoded now"]
    assert first.shape == (len(split), 4, 8, 8)
    assert torch.equal(first[1:], second[1:])
    assert not torch.equal(first[0], second[0])


def latents_of(split: Split, digests: list[str], coder: AutoencoderMeans, cache: Path) -> torch.Tensor:
    sizes = [(16, 16)] * len(split)
    kept = encoding.encode_images(digests, sizes, lambda places: [split.images[place] for place in places], coder, cache)
    return torch.stack([kept[place]["latents"] for place in range(len(kept))])


def test_an_unknown_component_is_refused_before_anything_is_loaded(
    arguments: Arguments, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    index = json.loads((copy / "model_index.json").read_text())
    index["unet"] = ["diffusers", "SomethingElse"]
    (copy / "model_index.json").write_text(json.dumps(index))
    assert main(arguments("bad", "--init", str(copy), **SHORT)) == 2
    assert "SomethingElse" in capsys.readouterr().err
