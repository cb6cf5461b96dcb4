from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from models.backends.attached import EAGER, Attachment, attachment_of, denoiser_of
from models.backends.base import EXACT, Availability, Backend, BackendError, Prepared, Run
from models.backends.calls import Call
from models.pipelines.interruption import InterruptedStepError


class Doubling(Backend):
    """Gives twice what the denoiser gives, so that it shows who ran; raises what it is told to."""

    name = "doubling"
    tolerance = EXACT

    def __init__(self, *, opening: Exception | None = None, running: Exception | None = None) -> None:
        self.opening = opening
        self.running = running
        self.opened: list[Path] = []

    def availability(self, device: str) -> Availability:
        return Availability(usable=True, detail="")

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Prepared(self, denoiser)


class _Prepared(Prepared):
    def __init__(self, backend: Doubling, denoiser: nn.Module) -> None:
        self.backend = backend
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        self.backend.opened.append(folder)
        if self.backend.opening:
            raise self.backend.opening
        return self.run

    def run(self, call: Call) -> Tensor:
        if self.backend.running:
            raise self.backend.running
        return 2 * type(self.denoiser).forward(self.denoiser, **call.arguments(call.tensors))


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, sample: Tensor) -> Tensor:
        return self.linear(sample)


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser().eval().requires_grad_(False)


SAMPLE = torch.ones(1, 4)


def test_a_chosen_backend_runs_the_calls(denoiser: Denoiser, tmp_path: Path) -> None:
    eager, told, backend = denoiser(SAMPLE), [], Doubling()
    attachment = Attachment(denoiser, tmp_path, lambda key: backend, told.append)
    assert torch.equal(denoiser(SAMPLE), 2 * eager)
    assert torch.equal(denoiser(SAMPLE.repeat(3, 1)), 2 * eager.repeat(3, 1))
    assert (attachment.ran, told, len(backend.opened)) == ("doubling", ["doubling"], 1)
    assert backend.opened[0].parent == tmp_path
    attachment.detach()
    assert torch.equal(denoiser(SAMPLE), eager)
    assert told == ["doubling", EAGER]


def test_signatures_without_a_choice_run_eagerly(denoiser: Denoiser, tmp_path: Path) -> None:
    eager = denoiser(SAMPLE)
    attachment = Attachment(denoiser, tmp_path, lambda key: None)
    assert torch.equal(denoiser(SAMPLE), eager)
    assert attachment.ran == EAGER


@pytest.mark.parametrize("when", ["opening", "running"])
def test_a_backend_that_fails_gives_way_to_eager_for_good(
    when: str, denoiser: Denoiser, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    eager, backend = denoiser(SAMPLE), Doubling(**{when: RuntimeError("illegal instruction\nat 0x0")})
    attachment = Attachment(denoiser, tmp_path, lambda key: backend)
    assert torch.equal(denoiser(SAMPLE), eager)
    setattr(backend, when, None)
    assert torch.equal(denoiser(SAMPLE), eager)
    assert torch.equal(denoiser(SAMPLE[None]), eager[None])  # nor is it tried for another signature
    assert attachment.failed == {"doubling": "RuntimeError: illegal instruction"}
    assert "torch-eager takes over" in caplog.text


def test_out_of_memory_is_passed_on(denoiser: Denoiser, tmp_path: Path) -> None:
    attachment = Attachment(denoiser, tmp_path, lambda key: Doubling(running=RuntimeError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        denoiser(SAMPLE)
    assert not attachment.failed


def test_a_step_that_nobody_wants_any_more_is_no_fault_of_the_backend(denoiser: Denoiser, tmp_path: Path) -> None:
    attachment = Attachment(denoiser, tmp_path, lambda key: Doubling(running=InterruptedStepError()))
    with pytest.raises(InterruptedStepError):
        denoiser(SAMPLE)
    assert not attachment.failed


def test_adapters_run_eagerly_while_they_are_active(denoiser: Denoiser, tmp_path: Path) -> None:
    eager = denoiser(SAMPLE)
    inject_adapter_in_model(LoraConfig(target_modules=["linear"], init_lora_weights=False), denoiser)
    adapted = denoiser(SAMPLE)
    attachment = Attachment(denoiser, tmp_path, lambda key: Doubling())
    assert torch.equal(denoiser(SAMPLE), adapted)
    assert attachment.ran == EAGER
    denoiser.linear.enable_adapters(False)
    assert torch.equal(denoiser(SAMPLE), 2 * eager)


def test_the_denoiser_is_found_by_its_name() -> None:
    class Pipe:
        def __init__(self, **components: object) -> None:
            self.components = components

    unet = Denoiser()
    assert denoiser_of(Pipe(vae=Denoiser(), unet=unet)) is unet
    assert attachment_of(Pipe(unet=unet)) is None
    with pytest.raises(BackendError, match="Pipe has no component"):
        denoiser_of(Pipe(vae=unet))
    assert attachment_of(object()) is None
