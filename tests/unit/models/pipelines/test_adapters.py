"""LoRA adapters on our own network and on diffusers pipelines: they act, they leave no trace, they don't get into each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from include.worker.pipeline import Adaptable, load_torch
from models.pipelines import adapters as adapters_module
from models.pipelines.adapters import AdaptablePipeline
from tests.support.device import DEVICE
from tests.support.tiny_diffusers import write_tiny_diffusers
from tests.support.tiny_pipeline import write_tiny_pipeline

#: By model: the network's name in adapter files, and the layers that get one.
MODELS = {
    "own": ("transformer", ["qkv", "mlp.0"]),
    "stable-diffusion": ("unet", ["to_q", "to_v"]),
    "stable-diffusion-3": ("transformer", ["to_q", "to_v"]),
    "flux": ("transformer", ["to_q", "to_v"]),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def directory(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / kind
    return write_tiny_pipeline(directory) if kind == "own" else write_tiny_diffusers(kind, directory)


@pytest.fixture
def pipeline(directory: Path) -> AdaptablePipeline:
    loaded = load_torch(directory, DEVICE)
    assert isinstance(loaded, AdaptablePipeline)
    return loaded


def write_adapter(kind: str, model: Path, directory: Path, seed: int) -> Path:
    """A LoRA for the model in the format of diffusers, with no factor zero."""
    name, targets = MODELS[kind]
    loaded = load_torch(model, DEVICE)
    assert isinstance(loaded, AdaptablePipeline)
    network = loaded.components["network" if kind == "own" else name]
    network.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=targets))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"{name}.{key}": 0.3 * torch.randn(tensor.shape, generator=generator) for key, tensor in get_peft_model_state_dict(network).items()
    }
    directory.mkdir()
    save_file(weights, directory / "pytorch_lora_weights.safetensors")
    return directory


@pytest.fixture(scope="module")
def written(kind: str, directory: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [write_adapter(kind, directory, root / f"adapter-{seed}", seed) for seed in (1, 2)]


def latents(pipeline: AdaptablePipeline) -> torch.Tensor:
    state = pipeline.prepare(pipeline.encode(["red cat"], [""], [3.0]), [7], 16, 16, 2)
    while min(state.progress) < state.steps:
        state = pipeline.step(state)
    return state.latents


def test_an_adapter_acts_and_leaves_no_trace(pipeline: AdaptablePipeline, written: list[Path]) -> None:
    assert isinstance(pipeline, Adaptable)
    plain = latents(pipeline)
    changed = latents(pipeline.with_adapters([(written[0], 1.0)]))
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.equal(latents(pipeline), plain)
    assert pipeline.holds(written[0])


def test_weight_and_company_matter(pipeline: AdaptablePipeline, written: list[Path]) -> None:
    one, half = (latents(pipeline.with_adapters([(written[0], weight)])) for weight in (1.0, 0.5))
    both = latents(pipeline.with_adapters([(written[0], 1.0), (written[1], 1.0)]))
    assert not torch.allclose(one, half, atol=1e-4)
    assert not torch.allclose(one, both, atol=1e-4)
    assert torch.allclose(latents(pipeline.with_adapters([(written[0], 0.0)])), latents(pipeline), atol=1e-5)


def test_views_take_turns_step_by_step(pipeline: AdaptablePipeline, written: list[Path]) -> None:
    views = [pipeline, pipeline.with_adapters([(written[0], 1.0)]), pipeline.with_adapters([(written[1], 0.7)])]
    alone = [latents(view) for view in views]
    states = [view.prepare(view.encode(["red cat"], [""], [3.0]), [7], 16, 16, 2) for view in views]
    while min(states[0].progress) < states[0].steps:
        states = [view.step(state) for view, state in zip(views, states, strict=True)]
    assert all(torch.equal(state.latents, expected) for state, expected in zip(states, alone, strict=True))


def test_few_stay_loaded(pipeline: AdaptablePipeline, written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters_module, "MAX_LOADED", 1)
    plain, first = latents(pipeline), latents(pipeline.with_adapters([(written[0], 1.0)]))
    view = pipeline.with_adapters([(written[1], 1.0)])
    assert not pipeline.holds(written[0])
    assert not torch.allclose(latents(view), first, atol=1e-4)
    assert torch.equal(latents(pipeline.with_adapters([(written[0], 1.0)])), first)
    assert torch.equal(latents(pipeline), plain)


def test_one_that_does_not_fit_is_refused_and_leaves_no_trace(
    pipeline: AdaptablePipeline, kind: str, directory: Path, written: list[Path], tmp_path: Path
) -> None:
    plain, good = latents(pipeline), latents(pipeline.with_adapters([(written[0], 1.0)]))
    for shape in ((2, 7), (2, 32)):
        wrong = tmp_path / f"wrong-{shape[1]}"
        wrong.mkdir()
        name = MODELS[kind][0]
        layer = f"{name}.nowhere.to_q"
        save_file({f"{layer}.lora_A.weight": torch.ones(shape), f"{layer}.lora_B.weight": torch.ones(32, 2)}, wrong / "a.safetensors")
        with pytest.raises(ValueError, match="the adapter does not fit the model"):
            pipeline.with_adapters([(wrong, 1.0)])
        assert not pipeline.holds(wrong)
    assert torch.equal(latents(pipeline), plain)
    assert torch.equal(latents(pipeline.with_adapters([(written[0], 1.0)])), good)


def test_what_is_no_adapter_is_refused(pipeline: AdaptablePipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one safetensors file; this one holds 0"):
        pipeline.with_adapters([(tmp_path, 1.0)])
    save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="holds no LoRA"):
        pipeline.with_adapters([(tmp_path, 1.0)])
    (tmp_path / "a.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        pipeline.with_adapters([(tmp_path, 1.0)])
