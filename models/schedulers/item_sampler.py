"""A diffusers scheduler for a batch whose items may be at steps of their own, and whose memory can be stored.

A scheduler object keeps the place and the history of one batch that moves in step. Here the history belongs to each item, as plain
tensors and numbers; a copy of the scheduler is given those of the items that are alike, does their step, and is thrown away. What a
step computes is the scheduler's own, so that it equals that of the diffusers pipeline.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, PNDMScheduler, SchedulerMixin
from torch import Tensor

#: What an item carries from step to step. A list's entries that are set are ``NAME.0``, ``NAME.1``, …
Memory: TypeAlias = Mapping[str, Tensor | int]

#: The schedulers that are known to keep nothing else between two steps than their place and these attributes.
REMEMBERED: dict[str, tuple[str, ...]] = {
    "DDIMScheduler": (),
    "DPMSolverMultistepScheduler": ("model_outputs", "lower_order_nums"),
    "EulerAncestralDiscreteScheduler": (),
    "EulerDiscreteScheduler": (),
    "FlowMatchEulerDiscreteScheduler": (),
    "LCMScheduler": (),
    "PNDMScheduler": ("ets", "counter", "cur_model_output", "cur_sample"),
    "UniPCMultistepScheduler": ("model_outputs", "last_sample", "lower_order_nums", "this_order"),
}
_ALWAYS_NOISY = frozenset({"EulerAncestralDiscreteScheduler", "LCMScheduler"})
GENERATOR = "generator"  #: in a memory: the state of the item's generator, a CPU tensor, where steps draw noise


@dataclass(frozen=True)
class Stepped:
    latents: Tensor
    denoised: Tensor  #: what the latents look to become
    memories: tuple[Memory, ...]


class ItemSampler:
    """One number of steps of one scheduler.

    :param scheduler: with its timesteps set; it is never stepped itself. Raises :class:`ValueError` for one that is not in
        :data:`REMEMBERED`
    """

    def __init__(self, scheduler: SchedulerMixin) -> None:
        name = type(scheduler).__name__
        if name not in REMEMBERED:
            raise ValueError(f"scheduler {name} is not one that a render can be resumed with; use one of {', '.join(sorted(REMEMBERED))}")
        self.scheduler: Any = scheduler
        self.remembered = REMEMBERED[name]
        self.timesteps: Tensor = self.scheduler.timesteps
        self.flows = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
        config = self.scheduler.config
        self.noisy = (
            name in _ALWAYS_NOISY
            or str(config.get("algorithm_type", "")).startswith("sde")
            or bool(config.get("stochastic_sampling", False))
        )

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def begin(self, generator: torch.Generator) -> Memory:
        """An item's memory before its first step; ``generator`` goes on from where it is now."""
        fresh = dict(_recall(self.scheduler, self.remembered))
        return {**fresh, GENERATOR: generator.get_state()} if self.noisy else fresh

    def noise(self, shape: Sequence[int], generators: Sequence[torch.Generator], dtype: torch.dtype) -> Tensor:
        """``(B, *shape)`` on the CPU, each item's from its own generator."""
        return torch.stack([torch.randn(tuple(shape), generator=generator, dtype=dtype) for generator in generators])

    def start_from_noise(self, noise: Tensor) -> Tensor:
        return noise if self.flows else noise * self.scheduler.init_noise_sigma

    def start_from(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """Clean latents as they are before step ``index``."""
        scheduler = self._at(index)
        timestep = self.timesteps[index : index + 1].repeat(len(clean))
        if self.flows:
            return scheduler.scale_noise(clean, timestep, noise)
        return scheduler.add_noise(clean, noise, timestep)

    def scaled(self, latents: Tensor, progress: Sequence[int]) -> Tensor:
        """The latents as the network wants them."""
        if self.flows:
            return latents
        scaled = torch.empty_like(latents)
        for step in set(progress):
            positions = [position for position, its in enumerate(progress) if its == step]
            scaled[positions] = self._at(step).scale_model_input(latents[positions], self.timesteps[step])
        return scaled

    def step(self, outputs: Tensor, latents: Tensor, progress: Sequence[int], memories: Sequence[Memory]) -> Stepped:
        """One step of every item. ``outputs`` are the network's, guided."""
        found_latents, found_denoised = torch.empty_like(latents), torch.empty_like(latents)
        found_memories: list[Memory] = [{} for _ in memories]
        for step, positions in _alike(progress, memories):
            stepped = self._step_alike(step, outputs[positions], latents[positions], [memories[position] for position in positions])
            found_latents[positions], found_denoised[positions] = stepped.latents, stepped.denoised
            for position, memory in zip(positions, stepped.memories, strict=True):
                found_memories[position] = memory
        return Stepped(found_latents, found_denoised, tuple(found_memories))

    def _step_alike(self, step: int, outputs: Tensor, latents: Tensor, memories: Sequence[Memory]) -> Stepped:
        scheduler, timestep = self._at(step), self.timesteps[step]
        self._remember(scheduler, memories)
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # it was, by another copy
        generators = [_generator(memory[GENERATOR]) for memory in memories] if self.noisy else None
        given = {"generator": generators} if generators else {}
        result = scheduler.step(outputs, timestep, latents, **given)
        after: list[dict[str, Tensor | int]] = [{} for _ in memories]
        for name, value in _recall(scheduler, self.remembered):
            for row, memory in enumerate(after):
                memory[name] = value[row] if isinstance(value, Tensor) else value
        for memory, generator in zip(after, generators or (), strict=False):
            memory[GENERATOR] = generator.get_state()
        return Stepped(result.prev_sample, self._denoised(scheduler, result, outputs, latents, step), tuple(after))

    def _at(self, index: int) -> Any:
        scheduler = copy.copy(self.scheduler)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(index)
        return scheduler

    def _remember(self, scheduler: Any, memories: Sequence[Memory]) -> None:
        for name in self.remembered:
            fresh = getattr(self.scheduler, name, None)
            if isinstance(fresh, list):
                known = [_stacked(memories, f"{name}.{place}") for place in range(len(_places(memories[0], name)))]
                setattr(scheduler, name, [None] * (len(fresh) - len(known)) + known)  # what is set stands at the end
            else:
                setattr(scheduler, name, _stacked(memories, name) if name in memories[0] else fresh)

    def _denoised(self, scheduler: Any, result: Any, outputs: Tensor, latents: Tensor, step: int) -> Tensor:
        """The clean latents as the step saw them, where the scheduler tells; else the latents."""
        if self.flows:
            return latents - self.scheduler.sigmas[step].to(latents.dtype) * outputs
        for name in ("pred_original_sample", "denoised"):
            if result.get(name) is not None:
                return result[name]
        if isinstance(scheduler, PNDMScheduler) and scheduler.config.prediction_type == "epsilon":
            kept = scheduler.alphas_cumprod.to(latents)[self.timesteps[step].cpu()]
            return (latents - (1 - kept) ** 0.5 * outputs) / kept**0.5
        predicts_clean = str(scheduler.config.get("algorithm_type", "")).endswith("++") or scheduler.config.get("predict_x0", False)
        return scheduler.model_outputs[-1] if predicts_clean else result.prev_sample


def _alike(progress: Sequence[int], memories: Sequence[Memory]) -> Iterator[tuple[int, list[int]]]:
    """The positions of the items that one call can step: at the same step, with as much remembered."""
    groups: dict[tuple[int, tuple[tuple[str, int | None], ...]], list[int]] = {}
    for position, (step, memory) in enumerate(zip(progress, memories, strict=True)):
        numbers = tuple((name, None if isinstance(value, Tensor) else value) for name, value in sorted(memory.items(), key=itemgetter(0)))
        groups.setdefault((step, numbers), []).append(position)
    yield from ((step, positions) for (step, _), positions in groups.items())


def _recall(scheduler: Any, names: Sequence[str]) -> Iterator[tuple[str, Tensor | int]]:
    for name in names:
        value = getattr(scheduler, name, None)
        if isinstance(value, list):
            yield from ((f"{name}.{place}", one) for place, one in enumerate(one for one in value if one is not None))
        elif value is not None:
            yield name, value


def _places(memory: Memory, name: str) -> list[str]:
    return [key for key in memory if key.startswith(f"{name}.")]


def _stacked(memories: Sequence[Memory], name: str) -> Tensor | int:
    values = [memory[name] for memory in memories]
    return torch.stack([value for value in values if isinstance(value, Tensor)]) if isinstance(values[0], Tensor) else values[0]


def _generator(state: Tensor | int) -> torch.Generator:
    assert isinstance(state, Tensor)
    generator = torch.Generator("cpu")
    generator.set_state(state)
    return generator
