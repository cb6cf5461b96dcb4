"""Any supported diffusers text-to-image pipeline as a render whose loop the caller owns.

Text, network, scheduler and decoder are those of the diffusers pipeline; what ``__call__`` keeps in local variables is a
:class:`LatentState` here. A subclass says what is particular to its family, see :mod:`models.pipelines.diffusers_families`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

from include.contracts.requests import steps_run
from models.pipelines.latent_preview import LatentPreview
from models.pipelines.latent_state import Conditioning, LatentState, load_state
from models.schedulers.item_sampler import ItemSampler


class StartImages(Protocol):
    """Images to start from, one an item."""

    @property
    def images(self) -> Sequence[Image.Image]: ...

    @property
    def strength(self) -> float: ...


class DiffusersTextToImage(ABC):
    """Images equal those of the diffusers pipeline called with a CPU generator for each item."""

    joins = True  #: networks take a timestep an item, and each item has its own scheduler memory

    network_name: ClassVar[str]  #: attribute of the diffusers pipeline that holds the network

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self.backend = "torch-eager"  #: what runs the network
        self.pipe: Any = pipe
        self.pipe.set_progress_bar_config(disable=True)
        self.network: Any = getattr(pipe, self.network_name)
        self.sampler = lru_cache(maxsize=64)(self._new_sampler)
        self.sampler(1, self.multiple, self.multiple)  # refuses an unknown scheduler while the model loads
        self._preview = LatentPreview(self._to_latents)

    @property
    def components(self) -> dict[str, Any]:
        return self.pipe.components

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def family(self) -> str:
        return type(self.pipe).__name__

    @property
    def multiple(self) -> int:
        """Of which width and height must be, in pixels."""
        return int(self.pipe.vae_scale_factor)

    @abstractmethod
    def _embed(self, text: str) -> dict[str, Tensor]:
        """What the network is told of one text: its arguments by name, with a leading 1."""

    @abstractmethod
    def _predict(self, latents: Tensor, timesteps: Tensor, text: Mapping[str, Tensor], scale: Tensor, size: tuple[int, int]) -> Tensor:
        """The network's output for a row of each argument; ``scale`` is the guidance, ``size`` width and height in pixels."""

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        """Whether the network is asked for the negative prompts too."""
        return any(scale > 1 for scale in guidance)

    def _latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Channels, height and width of the latents that noise is drawn for."""
        return self.network.config.in_channels, height // self.pipe.vae_scale_factor, width // self.pipe.vae_scale_factor

    def _pack(self, latents: Tensor) -> Tensor:
        """From ``(B, C, h, w)`` to what the network takes."""
        return latents

    def _unpack(self, latents: Tensor, width: int, height: int) -> Tensor:
        return latents

    def _set_timesteps(self, scheduler: Any, steps: int, width: int, height: int) -> None:
        scheduler.set_timesteps(steps, device=self.device)

    def _new_sampler(self, steps: int, width: int, height: int) -> ItemSampler:
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        self._set_timesteps(scheduler, steps, width, height)
        return ItemSampler(scheduler)

    @torch.no_grad()
    def embed(self, text: str) -> dict[str, Tensor]:
        """Of a prompt. It depends on the text and the encoders alone, so it may be kept."""
        return self._embed(text)

    def embed_negative(self, text: str) -> dict[str, Tensor]:
        return self.embed(text)

    def condition(
        self, positive: Sequence[Mapping[str, Tensor]], negative: Sequence[Mapping[str, Tensor]], guidance: Sequence[float]
    ) -> Conditioning:
        """Conditioning of the items from what :meth:`embed` and :meth:`embed_negative` gave for their texts."""
        scales = torch.tensor(list(guidance), dtype=torch.float32, device=self.device)
        return Conditioning(_joined(positive, self.device), _joined(negative, self.device) if negative else {}, scales)

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str], guidance: Sequence[float]) -> Conditioning:
        """Each text by itself, for its neighbours must not change it."""
        if not len(prompts) == len(negative_prompts) == len(guidance):
            raise ValueError(
                f"{len(prompts)} prompts, {len(negative_prompts)} negative prompts and {len(guidance)} guidances: give as many"
            )
        wanted = self.wants_negatives(negative_prompts, guidance)
        positive = {text: self.embed(text) for text in set(prompts)}
        negative = {text: self.embed_negative(text) for text in set(negative_prompts)} if wanted else {}
        return self.condition([positive[text] for text in prompts], [negative[text] for text in negative_prompts if wanted], guidance)

    @torch.no_grad()
    def prepare(
        self, conditioning: Conditioning, seeds: Sequence[int], width: int, height: int, steps: int, start: StartImages | None = None
    ) -> LatentState:
        """Initial noise, each item's from its own seed on the CPU, so that it depends on neither the batch nor the device.

        With ``start``, the images under as much noise as remains ``steps * strength`` steps before the end.
        """
        if len(seeds) != len(conditioning):
            raise ValueError(f"{len(seeds)} seeds for {len(conditioning)} items; give one each")
        if width % self.multiple or height % self.multiple:
            raise ValueError(f"width {width} and height {height} must be multiples of {self.multiple}")
        sampler = self.sampler(steps, width, height)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        first = 0 if start is None else steps - steps_run(steps, start.strength)
        latents = self._first_latents(sampler, generators, (width, height), start, first)
        return LatentState(
            family=self.family,
            width=width,
            height=height,
            asked_steps=steps,
            sampler=sampler,
            latents=latents,
            denoised=latents,
            progress=(first,) * len(seeds),
            conditioning=conditioning,
            memories=tuple(sampler.begin(generator) for generator in generators),
        )

    def _first_latents(
        self, sampler: ItemSampler, generators: list[torch.Generator], size: tuple[int, int], start: StartImages | None, first: int
    ) -> Tensor:
        shape, dtype = self._latent_shape(*size), self.network.dtype
        if start is None:
            noise = sampler.noise(shape, generators, dtype).to(self.device)
            return self._pack(sampler.start_from_noise(noise))
        if len(start.images) != len(generators):
            raise ValueError(f"{len(start.images)} images to start from for {len(generators)} items; give one each")
        if any(image.size != size for image in start.images):
            raise ValueError(f"an image to start from is not {size[0]}x{size[1]}")
        clean = torch.cat([self._to_latents(image, generator) for image, generator in zip(start.images, generators, strict=True)])
        noise = sampler.noise(shape, generators, dtype).to(self.device)
        return self._pack(sampler.start_from(clean.to(dtype), noise, first))

    @torch.no_grad()
    def step(self, state: LatentState) -> LatentState:
        """One step of every unfinished item. Raises :class:`ValueError` where none is left."""
        rows = state.unfinished()
        if not rows:
            raise ValueError(f"all {state.steps} steps are done")
        progress = [state.progress[row] for row in rows]
        latents, conditioning = state.latents[rows], state.conditioning.select(rows)
        inputs = state.sampler.scaled(latents, progress)
        outputs = self._guided(inputs, state.sampler.timesteps[progress], conditioning, (state.width, state.height))
        stepped = state.sampler.step(outputs, latents, progress, [state.memories[row] for row in rows])
        return state.replaced(rows, stepped.latents, stepped.denoised, stepped.memories)

    def _guided(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, size: tuple[int, int]) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022) with a scale for each item."""
        scale = conditioning.guidance
        if not conditioning.negative:
            return self._predict(latents, timesteps, conditioning.positive, scale, size)
        both = _joined([conditioning.negative, conditioning.positive], latents.device)
        doubled = [torch.cat([one, one]) for one in (latents, timesteps, scale)]
        negative, positive = self._predict(doubled[0], doubled[1], both, doubled[2], size).chunk(2)
        weight = scale.view(-1, *[1] * (positive.dim() - 1)).to(positive.dtype)
        return torch.where(weight > 1, negative + weight * (positive - negative), positive)

    @torch.no_grad()
    def decode(self, state: LatentState) -> list[Image.Image]:
        pixels = self._decoded(self._unpack(state.latents, state.width, state.height))
        return list(self.pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[True] * len(pixels)))

    @torch.no_grad()
    def preview(self, state: LatentState) -> list[Image.Image]:
        """A pixel a latent, from the predicted clean latents."""
        return self._preview(self._unpack(state.denoised, state.width, state.height))

    def restore(self, data: bytes) -> LatentState:
        return load_state(data, self.family, self.sampler, self.device)

    def _decoded(self, latents: Tensor) -> Tensor:
        """``(B, C, h, w)`` latents as ``(B, 3, H, W)`` pixels in -1..1."""
        with self._vae_at_its_precision() as vae:
            scaled = self._unscaled(latents.to(vae.dtype))
            return vae.decode(scaled, return_dict=False)[0]

    def _to_latents(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """``(1, C, h, w)``, drawn from what the encoder says of the image."""
        with self._vae_at_its_precision() as vae:
            pixels = self.pipe.image_processor.preprocess(image).to(self.device, vae.dtype)
            return self._rescaled(vae.encode(pixels).latent_dist.sample(generator))

    def _vae_at_its_precision(self) -> Any:
        return UpcastVae(self.pipe.vae)

    def _unscaled(self, latents: Tensor) -> Tensor:
        """From the network's scale to the decoder's."""
        return latents / self.pipe.vae.config.scaling_factor

    def _rescaled(self, latents: Tensor) -> Tensor:
        return self.pipe.vae.config.scaling_factor * latents


class UpcastVae:
    """The autoencoder, in float32 meanwhile where its half precision overflows and it says so."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.upcast = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast", False))

    def __enter__(self) -> Any:
        if self.upcast:
            self.vae.to(dtype=torch.float32)
        return self.vae

    def __exit__(self, *_: object) -> None:
        if self.upcast:
            self.vae.to(dtype=torch.float16)


def _joined(parts: Sequence[Mapping[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.cat([part[name].to(device) for part in parts]) for name in parts[0]}
