"""What a directory may ask for, and what is refused before anything of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler
from safetensors.torch import load_file, save_file

from include.worker.pipeline import load_torch
from models.pipelines.adapters import AdaptablePipeline
from models.pipelines.loading import _stored_dtype
from tests.support.device import DEVICE
from tests.support.tiny_diffusers import use_scheduler, write_tiny_diffusers
from tests.support.tiny_pipeline import write_tiny_pipeline
from tests.unit.models.pipelines.diffusers_renders import begin, finish

#: How diffusers makes numpy arrays of tensors for some schedulers, numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write_tiny_diffusers("stable-diffusion", tmp_path / "model")


def rename(directory: Path, **entries: object) -> None:
    index = json.loads((directory / "model_index.json").read_text())
    (directory / "model_index.json").write_text(json.dumps({**index, **entries}))


def test_our_own_pipeline_is_loaded_too(tmp_path: Path) -> None:
    pipeline = load_torch(write_tiny_pipeline(tmp_path / "model"), DEVICE)
    state = pipeline.prepare(pipeline.encode(["cat"], [""], [3.0]), [1], 16, 16, 2)
    assert pipeline.decode(pipeline.step(pipeline.step(state)))[0].size == (16, 16)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"_class_name": "KandinskyPipeline"}, "'KandinskyPipeline'; only AtelierTextToImagePipeline, StableDiffusionPipeline"),
        ({"_class_name": ["pipeline", "Evil"]}, "only AtelierTextToImagePipeline"),
        ({"unet": ["custom_module", "UNet2DConditionModel"]}, "as unet; only UNet2DConditionModel of diffusers"),
        ({"scheduler": ["diffusers", "EvilScheduler"]}, "as scheduler; only DDIMScheduler"),
        ({"text_encoder": ["transformers", "AutoModel"]}, "as text_encoder; only CLIPTextModel of transformers"),
        ({"vae": None}, "None as vae"),
        ({"extra": ["os", "system"]}, "as extra, which is not a part"),
    ],
)
def test_another_class_is_refused(saved: Path, entries: dict[str, object], words: str) -> None:
    rename(saved, **entries)
    with pytest.raises(ValueError, match=words):
        load_torch(saved, DEVICE)


@pytest.mark.parametrize("name", ["pipeline.py", "unet/diffusion_pytorch_model.bin", "vae/weights.pt", "text_encoder/adapter_config.json"])
def test_code_pickles_and_links_to_other_models_are_refused(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=Path(name).name):
        load_torch(saved, DEVICE)


@pytest.mark.parametrize("shard", ["../../secret.safetensors", "missing.safetensors"])
def test_shards_must_lie_beside_their_index(saved: Path, shard: str) -> None:
    (saved / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": shard}}))
    with pytest.raises(ValueError, match="shards must be files beside it"):
        load_torch(saved, DEVICE)


def test_weights_that_are_cut_off_are_refused(saved: Path) -> None:
    weights = saved / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Exception, match=r"(?i)safetensors|incomplete|checkpoint"):
        load_torch(saved, DEVICE)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_a_version_that_lacks_weights_is_refused_wherever_they_are(saved: Path, name: str) -> None:
    """Libraries that load it would make up what is not there."""
    (weights,) = (saved / name).glob("*.safetensors")
    tensors = load_file(weights)
    lost = sorted(tensors)[0]
    tensors["somebody.elses"] = tensors.pop(lost)
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{name}: its files lack the weights .*{lost.rpartition('.')[2]}; export the version anew"):
        load_torch(saved, DEVICE)


def test_our_own_version_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    write_tiny_pipeline(tmp_path)
    weights = tmp_path / "network" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    lost = [name for name in sorted(tensors) if name.startswith("inner.")]
    save_file({name: tensor for name, tensor in tensors.items() if name not in lost}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"network: its files lack the weights {', '.join(lost[:3])} and {len(lost) - 3} more; export"):
        load_torch(tmp_path, DEVICE)


def test_a_scheduler_whose_state_is_not_known_is_refused(saved: Path) -> None:
    use_scheduler(saved, HeunDiscreteScheduler())
    with pytest.raises(ValueError, match="HeunDiscreteScheduler"):
        load_torch(saved, DEVICE)


def test_another_scheduler_is_used(saved: Path) -> None:
    pipeline = load_torch(use_scheduler(saved, DPMSolverMultistepScheduler(steps_offset=1)), DEVICE)
    assert isinstance(pipeline, AdaptablePipeline)
    assert finish(pipeline, begin(pipeline, [0], steps=2)).steps == 2


def test_a_safety_checker_that_is_named_is_left_out(saved: Path) -> None:
    rename(
        saved, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"], feature_extractor=["transformers", "CLIPImageProcessor"]
    )
    pipeline = load_torch(saved, DEVICE)
    assert isinstance(pipeline, AdaptablePipeline)
    assert pipeline.components["safety_checker"] is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_stored_precision_is_told_from_the_file(saved: Path, dtype: torch.dtype) -> None:
    weights = saved / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
    assert _stored_dtype(saved / "unet") is dtype


def test_a_directory_without_a_pipeline_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model_index.json"):
        load_torch(tmp_path, DEVICE)
