"""One worker renders with models of several families, from images, and with adapters, as each lease says."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from include.contracts.dispatch import AdapterRef, ModelRef
from include.contracts.errors import ReasonCode
from include.worker.cache import ModelCache
from include.worker.pipeline import Pipeline, load_torch
from tests.support.leases import lease_of, render_task
from tests.support.tiny_diffusers import write_tiny_diffusers
from tests.support.tiny_pipeline import write_tiny_pipeline
from tests.unit.include.worker.conftest import Bench

OWN, FLUX, INK, WRONG = (
    ModelRef(name=name, version="1", digest=digit * 64, source="x") for name, digit in zip("abcd", "1234", strict=True)
)


class Shop(Bench):
    """A bench with several models, loaded as a worker loads them."""

    def __init__(self, root: Path, pipeline: Pipeline) -> None:
        super().__init__(root, pipeline)
        self.directories = {
            OWN: write_tiny_pipeline(root / "own"),
            FLUX: write_tiny_diffusers("flux", root / "flux"),
            INK: write_adapter(root / "ink", "inner.0.mlp.0", 32, 128),
            WRONG: write_adapter(root / "wrong", "nowhere.mlp.0", 32, 128),
        }
        self.loaded: list[Path] = []
        self.cache = ModelCache(self, self.load)
        self.reporter.cache = self.cache

    def load(self, directory: Path, device: str) -> Pipeline:
        self.loaded.append(directory)
        return load_torch(directory, device)

    def fetch(self, ref: ModelRef) -> Path:
        return self.directories[ref]

    def image(self, request_id: str) -> Image.Image:
        return Image.open(io.BytesIO(self.store.get(self.completed[request_id].images[0].key)))


def write_adapter(directory: Path, layer: str, inputs: int, outputs: int) -> Path:
    directory.mkdir()
    generator = torch.Generator().manual_seed(0)
    factors = {"lora_A": (2, inputs), "lora_B": (outputs, 2)}
    weights = {f"transformer.{layer}.{name}.weight": torch.randn(shape, generator=generator) for name, shape in factors.items()}
    save_file(weights, directory / "pytorch_lora_weights.safetensors")
    return directory


@pytest.fixture
def shop(tmp_path: Path, pipeline: Pipeline) -> Shop:
    return Shop(tmp_path, pipeline)


def test_models_of_two_families_take_turns(shop: Shop) -> None:
    for turn in range(2):
        for ref in (OWN, FLUX):
            assert shop.execute(lease_of(render_task(f"{ref.name}-{turn}", seed=1), model=ref)) == ""
    for ref in (OWN, FLUX):
        first, second = (shop.image(f"{ref.name}-{turn}") for turn in range(2))
        assert first.tobytes() == second.tobytes()
    assert shop.image("a-0").tobytes() != shop.image("b-0").tobytes()
    assert len(shop.loaded) == 2


def test_an_adapter_acts_on_its_own_lease_only(shop: Shop) -> None:
    ink = (AdapterRef(model=INK, weight=0.8),)
    for name, adapters in (("plain", ()), ("inked", ink), ("plain-again", ())):
        assert shop.execute(lease_of(render_task(name, seed=1, adapters=adapters), model=OWN)) == ""
    assert shop.image("plain").tobytes() == shop.image("plain-again").tobytes() != shop.image("inked").tobytes()
    assert len(shop.loaded) == 1


def test_an_adapter_that_does_not_fit_fails_the_requests_that_name_it(shop: Shop) -> None:
    wrong = (AdapterRef(model=WRONG),)
    shop.execute(lease_of(render_task("bad", adapters=wrong), render_task("bad-too", adapters=wrong), model=OWN))
    shop.execute(lease_of(render_task("good"), model=OWN))
    assert {name: shop.failed[name].reason.code for name in ("bad", "bad-too")} == dict.fromkeys(
        ("bad", "bad-too"), ReasonCode.MODEL_LOAD_FAILED
    )
    assert "d/1 can't be used: the adapter does not fit the model" in shop.failed["bad"].reason.message
    assert not shop.failed["bad"].retryable
    assert "good" in shop.completed


@pytest.mark.parametrize("ref", [OWN, FLUX], ids=["own", "flux"])
def test_from_an_image_and_a_bad_one_fails_alone(shop: Shop, ref: ModelRef) -> None:
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        buffer = io.BytesIO()
        Image.new("RGB", (24, 24), colour).save(buffer, "PNG")
        shop.store.put_if_absent(f"inputs/acme/{name}.png", buffer.getvalue(), "image/png")
    names = ("red", "blue", "missing")
    tasks = [render_task(name, seed=1, init_image=f"inputs/acme/{name}.png", strength=0.5) for name in names]
    shop.execute(lease_of(*tasks, model=ref))
    assert shop.failed["missing"].reason.code is ReasonCode.INVALID_FIELD
    assert "there is no object inputs/acme/missing.png" in shop.failed["missing"].reason.message
    assert shop.image("red").tobytes() != shop.image("blue").tobytes()
    assert shop.completed["red"].usage.steps == 2
