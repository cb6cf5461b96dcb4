"""What a render in a latent space is between two steps, each item by itself: so that items can leave, join, be stored and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from models.pipelines.state_file import pack, unpack
from models.schedulers.item_sampler import GENERATOR, ItemSampler, Memory

KIND = "atelier.latents/1"


@dataclass(frozen=True)
class Conditioning:
    """What a batch of items is rendered to. Tensors by name, as the network calls them, each with an item a row."""

    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor]  #: empty where no item is guided by what it should not show
    guidance: Tensor  #: (B,) scales; 1 or less turns guidance off

    def __len__(self) -> int:
        return len(self.guidance)

    def select(self, indices: Sequence[int]) -> Conditioning:
        rows = list(indices)
        return Conditioning(_rows(self.positive, rows), _rows(self.negative, rows), self.guidance[rows])

    def join(self, other: Conditioning) -> Conditioning:
        """Ours, then the other's. Raises :class:`ValueError` where only one of them is guided."""
        if self.negative.keys() != other.negative.keys():
            raise ValueError("guided and unguided items are encoded differently; join items of one kind")
        positive = {name: torch.cat([tensor, other.positive[name]]) for name, tensor in self.positive.items()}
        negative = {name: torch.cat([tensor, other.negative[name]]) for name, tensor in self.negative.items()}
        return Conditioning(positive, negative, torch.cat([self.guidance, other.guidance]))


@dataclass(frozen=True, kw_only=True)
class LatentState:
    """Rows of every tensor, and entries of every tuple, are the items."""

    family: str  #: of the pipeline that made it
    width: int  #: pixels
    height: int  #: pixels
    asked_steps: int  #: that the sampler was made for; it may take more of them than were asked for
    sampler: ItemSampler
    latents: Tensor  #: (B, …)
    denoised: Tensor  #: (B, …) what they look to become
    progress: tuple[int, ...]
    conditioning: Conditioning
    memories: tuple[Memory, ...]

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def unfinished(self) -> list[int]:
        return [position for position, step in enumerate(self.progress) if step < self.steps]

    def select(self, indices: Sequence[int]) -> Self:
        rows = list(indices)
        return self._with(
            latents=self.latents[rows],
            denoised=self.denoised[rows],
            progress=tuple(self.progress[row] for row in rows),
            conditioning=self.conditioning.select(rows),
            memories=tuple(self.memories[row] for row in rows),
        )

    def join(self, other: Self) -> Self:
        """Raises :class:`ValueError` where the other one is of another model, size or number of steps."""
        for name in ("family", "width", "height", "asked_steps"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"renders of different {name} can't join: {getattr(self, name)} and {getattr(other, name)}")
        return self._with(
            latents=torch.cat([self.latents, other.latents]),
            denoised=torch.cat([self.denoised, other.denoised]),
            progress=self.progress + other.progress,
            conditioning=self.conditioning.join(other.conditioning),
            memories=self.memories + other.memories,
        )

    def replaced(self, rows: Sequence[int], latents: Tensor, denoised: Tensor, memories: Sequence[Memory]) -> Self:
        """These rows one step further."""
        new = dict(zip(rows, memories, strict=True))
        return self._with(
            latents=_put(self.latents, rows, latents),
            denoised=_put(self.denoised, rows, denoised),
            progress=tuple(step + (row in new) for row, step in enumerate(self.progress)),
            memories=tuple(new.get(row, memory) for row, memory in enumerate(self.memories)),
        )

    def _with(self, **changes: Any) -> Self:
        return type(self)(**{**vars(self), **changes})

    def dump(self) -> bytes:
        tensors = {"latents": self.latents, "denoised": self.denoised, "guidance": self.conditioning.guidance}
        tensors |= _prefixed("positive", self.conditioning.positive) | _prefixed("negative", self.conditioning.negative)
        numbers: list[dict[str, int]] = []
        for row, memory in enumerate(self.memories):
            tensors |= _prefixed(f"memory.{row}", {name: value for name, value in memory.items() if isinstance(value, Tensor)})
            numbers.append({name: value for name, value in memory.items() if not isinstance(value, Tensor)})
        size = {"width": self.width, "height": self.height, "steps": self.asked_steps}
        return pack(KIND, tensors, {"family": self.family, **size, "progress": self.progress, "numbers": numbers})


def load_state(data: bytes, family: str, sampler_of: Callable[[int, int, int], ItemSampler], device: torch.device) -> LatentState:
    """What :meth:`LatentState.dump` wrote. Raises :class:`ValueError` for anything else.

    :param sampler_of: makes the sampler from steps, width and height
    """
    tensors, values = unpack(KIND, data)
    if values.get("family") != family:
        raise ValueError(f"the state of a render of {values.get('family')}; {family} is needed")
    try:
        moved = {name: tensor if name.endswith(GENERATOR) else tensor.to(device) for name, tensor in tensors.items()}
        conditioning = Conditioning(_without("positive", moved), _without("negative", moved), moved["guidance"])
        memories = tuple({**_without(f"memory.{row}", moved), **numbers} for row, numbers in enumerate(values["numbers"]))
        state = LatentState(
            family=family,
            width=values["width"],
            height=values["height"],
            asked_steps=values["steps"],
            sampler=sampler_of(values["steps"], values["width"], values["height"]),
            latents=moved["latents"],
            denoised=moved["denoised"],
            progress=tuple(values["progress"]),
            conditioning=conditioning,
            memories=memories,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the state of a render: {error!r}") from error
    _check(state)
    return state


def _check(state: LatentState) -> None:
    """Raises :class:`ValueError` where no render can have come to this."""
    texts = [*state.conditioning.positive.values(), *state.conditioning.negative.values()]
    tensors = [state.latents, state.denoised, state.conditioning.guidance, *texts]
    count = len(state.progress)
    if not count or len(state.memories) != count or any(len(tensor) != count for tensor in tensors):
        raise ValueError(f"not the state of a render: its parts are not all of {count} items")
    if not all(0 <= step <= state.steps for step in state.progress):
        raise ValueError(f"not the state of a render: progress {state.progress} of {state.steps} steps")
    if not all(torch.isfinite(tensor.float()).all() for tensor in tensors):
        raise ValueError("not the state of a render: it holds values that are not finite")


def _rows(tensors: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in tensors.items()}


def _put(tensor: Tensor, rows: Iterable[int], values: Tensor) -> Tensor:
    """A copy, for the state that was given stays as it was."""
    copy = tensor.clone()
    copy[list(rows)] = values
    return copy


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
