"""Items that each have a scheduler's memory of their own get what one scheduler object gives each of them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from models.schedulers.item_sampler import REMEMBERED, ItemSampler, Memory

#: How diffusers makes numpy arrays of tensors for some schedulers, numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS, SHAPE = 5, (4, 2, 3)
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: DDIMScheduler(**BETAS, clip_sample=False),
    "dpm++": lambda: DPMSolverMultistepScheduler(**BETAS),
    "dpm of order 3": lambda: DPMSolverMultistepScheduler(**BETAS, solver_order=3),
    "dpm++ karras": lambda: DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True),
    "sde dpm++": lambda: DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++"),
    "euler": lambda: EulerDiscreteScheduler(**BETAS),
    "euler ancestral": lambda: EulerAncestralDiscreteScheduler(**BETAS),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "flow with noise": lambda: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    "lcm": lambda: LCMScheduler(**BETAS, clip_sample=False),
    "pndm": lambda: PNDMScheduler(**BETAS, skip_prk_steps=True),
    "pndm with its first steps": lambda: PNDMScheduler(**BETAS),
    "unipc": lambda: UniPCMultistepScheduler(**BETAS),
}


@pytest.fixture(params=sorted(SCHEDULERS))
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    def prepared() -> Any:
        scheduler = SCHEDULERS[request.param]()
        scheduler.set_timesteps(STEPS)
        return scheduler

    return prepared


def network(latents: Tensor, timestep: Tensor) -> Tensor:
    """Stands in for one: depends on both."""
    return torch.tanh(0.3 * latents) + 0.001 * timestep.view(-1, *[1] * (latents.dim() - 1))


def by_diffusers(make: Callable[[], Any], seed: int, start: Tensor | None = None, index: int = 0) -> Tensor:
    scheduler, generator = make(), torch.Generator().manual_seed(seed)
    noise = torch.randn(1, *SHAPE, generator=generator)
    flows = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)
    if start is None:
        latents = noise if flows else noise * scheduler.init_noise_sigma
    else:
        latents = (scheduler.scale_noise if flows else lambda clean, at, noise: scheduler.add_noise(clean, noise, at))(
            start[None], scheduler.timesteps[index : index + 1], noise
        )
    for timestep in scheduler.timesteps[index:]:
        scaled = latents if flows else scheduler.scale_model_input(latents, timestep)
        given = {} if isinstance(scheduler, (PNDMScheduler, UniPCMultistepScheduler)) else {"generator": generator}
        latents = scheduler.step(network(scaled, timestep), timestep, latents, **given).prev_sample
    return latents[0]


class Batch:
    """Items as a pipeline keeps them."""

    def __init__(self, sampler: ItemSampler, seeds: Sequence[int], starts: Tensor | None = None, index: int = 0) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = sampler.noise(SHAPE, generators, torch.float32)
        self.sampler = sampler
        self.latents = sampler.start_from_noise(noise) if starts is None else sampler.start_from(starts, noise, index)
        self.memories: list[Memory] = [sampler.begin(generator) for generator in generators]
        self.progress = [index] * len(seeds)

    def step(self, rows: Sequence[int]) -> None:
        chosen = list(rows)
        progress, latents = [self.progress[row] for row in chosen], self.latents[chosen]
        outputs = network(self.sampler.scaled(latents, progress), self.sampler.timesteps[progress])
        stepped = self.sampler.step(outputs, latents, progress, [self.memories[row] for row in chosen])
        self.latents = self.latents.clone()
        self.latents[chosen] = stepped.latents
        for row, memory in zip(chosen, stepped.memories, strict=True):
            self.memories[row], self.progress[row] = memory, self.progress[row] + 1


def test_in_step_or_not_each_gets_what_it_gets_alone(make: Callable[[], Any]) -> None:
    batch = Batch(ItemSampler(make()), [1, 2, 3])
    batch.step([1])
    batch.step([0, 1])
    while min(batch.progress) < batch.sampler.steps:
        batch.step([row for row in range(3) if batch.progress[row] < batch.sampler.steps])
    for row, seed in enumerate([1, 2, 3]):
        torch.testing.assert_close(batch.latents[row], by_diffusers(make, seed), rtol=1e-5, atol=1e-5)


def test_from_an_image_too(make: Callable[[], Any]) -> None:
    starts = torch.linspace(-1, 1, 2 * 24).view(2, *SHAPE)
    batch = Batch(ItemSampler(make()), [4, 5], starts, 2)
    if isinstance(batch.sampler.scheduler, PNDMScheduler) and not batch.sampler.scheduler.config.skip_prk_steps:
        pytest.skip("its first steps can't be left out, neither here nor in diffusers")
    while min(batch.progress) < batch.sampler.steps:
        batch.step([0, 1])
    for row, seed in enumerate([4, 5]):
        torch.testing.assert_close(batch.latents[row], by_diffusers(make, seed, starts[row], 2), rtol=1e-5, atol=1e-5)


def test_the_scheduler_that_was_given_is_never_stepped(make: Callable[[], Any]) -> None:
    sampler = ItemSampler(make())
    for _ in range(2):  # a second batch finds it as the first did
        batch = Batch(sampler, [1])
        while batch.progress[0] < sampler.steps:
            batch.step([0])
        torch.testing.assert_close(batch.latents[0], by_diffusers(make, 1), rtol=1e-5, atol=1e-5)


def test_what_an_item_looks_to_become_comes_nearer(make: Callable[[], Any]) -> None:
    sampler = ItemSampler(make())
    batch = Batch(sampler, [1])
    while batch.progress[0] < sampler.steps - 1:
        batch.step([0])
    latents, progress = batch.latents, batch.progress
    stepped = sampler.step(network(sampler.scaled(latents, progress), sampler.timesteps[progress]), latents, progress, batch.memories)
    assert torch.isfinite(stepped.denoised).all()
    assert stepped.denoised.shape == latents.shape


def test_every_scheduler_that_is_allowed_is_tried() -> None:
    assert {type(make()).__name__ for make in SCHEDULERS.values()} == REMEMBERED.keys()


def test_another_scheduler_is_refused() -> None:
    with pytest.raises(ValueError, match="HeunDiscreteScheduler is not one that a render can be resumed with; use one of DDIMScheduler"):
        ItemSampler(HeunDiscreteScheduler())
