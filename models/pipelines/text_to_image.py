"""Text to image by a rectified flow on pixels, as a diffusers pipeline whose loop may be owned by somebody else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerBase

from include.contracts.requests import steps_run
from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.modules import load_module
from models.pipelines.render_state import Conditioning, RenderState, restore_state
from models.pipelines.text_encoder import TextEmbeddings, encode_text, load_encoder, load_text_encoder, load_tokenizer, quiet

DEFAULT_STEPS, DEFAULT_GUIDANCE = 12, 3.0
#: The only classes that a pipeline directory may name, by component.
COMPONENTS = {
    "network": {"HourglassTransformer2DModel"},
    "scheduler": {"FlowMatchEulerDiscreteScheduler"},
    "text_encoder": {"BertModel"},
    "tokenizer": {"BertTokenizer", "BertTokenizerFast", "TokenizersBackend", "PreTrainedTokenizerFast"},
}
UNSAFE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".msgpack", ".h5"})


class Start(Protocol):
    """Images to start from, as :class:`include.worker.pipeline.Start`."""

    @property
    def images(self) -> Sequence[Image.Image]: ...

    @property
    def strength(self) -> float: ...


class AtelierTextToImagePipeline(DiffusionPipeline):
    """Renders prompts. ``__call__`` does it all; ``encode``, ``prepare``, ``step`` and ``decode`` leave the loop to the caller."""

    model_cpu_offload_seq = "text_encoder->network"
    joins = True  #: items of one state may be at different steps

    def __init__(
        self,
        network: HourglassTransformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        text_encoder: BertModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)
        self.backend = "torch-eager"  #: what runs the network

    def encode(
        self, prompts: Sequence[str], negative_prompts: Sequence[str] | str = "", guidance: Sequence[float] | float = DEFAULT_GUIDANCE
    ) -> Conditioning:
        """Conditioning of one item a prompt; a single negative prompt or guidance serves all of them."""
        negatives = [negative_prompts] * len(prompts) if isinstance(negative_prompts, str) else list(negative_prompts)
        scales = [float(guidance)] * len(prompts) if isinstance(guidance, (int, float)) else [float(scale) for scale in guidance]
        if not len(prompts) == len(negatives) == len(scales):
            raise ValueError(f"{len(prompts)} prompts, {len(negatives)} negative prompts and {len(scales)} guidance scales must be as many")
        found = {text: self.embed(text) for text in dict.fromkeys([*prompts, *negatives])}
        return self.condition([found[text] for text in prompts], [found[text] for text in negatives], scales)

    @torch.no_grad()
    def embed(self, text: str) -> dict[str, Tensor]:
        """What the network is told of one text: ``tokens`` (1, L, D), ``mask`` (1, L) and ``pooled`` (1, D).

        It depends on the text and the encoder alone, so it may be kept: each text is encoded by itself, for padding to the longest of
        a batch would change the last bits.
        """
        return dict(vars(encode_text(self.text_encoder, self.tokenizer, [text], self.network.config.text_length)))

    embed_negative = embed  #: a negative prompt is a text like any other

    def wants_negatives(self, negative_prompts: Sequence[str], guidance: Sequence[float]) -> bool:
        """Whether :meth:`condition` takes negative prompts at such guidance: always, for items without guidance may be among others."""
        return True

    def condition(
        self, positive: Sequence[Mapping[str, Tensor]], negative: Sequence[Mapping[str, Tensor]], guidance: Sequence[float]
    ) -> Conditioning:
        """Conditioning of the items from what :meth:`embed` gave for their texts."""
        device = self.device  # looks through all modules
        texts = [TextEmbeddings.join([TextEmbeddings(**embedding).to(device) for embedding in side]) for side in (positive, negative)]
        return Conditioning(texts[0], texts[1], torch.tensor(guidance, dtype=torch.float32, device=device))

    def prepare(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        steps: int = DEFAULT_STEPS,
        start: Start | None = None,
    ) -> RenderState:
        """Initial noise: each item's from its own seed on the CPU, so that it depends on neither the batch nor the device.

        From ``start``, an item is its image with as much of that noise as the first of the steps that its strength leaves it has.
        """
        if len(seeds) != len(conditioning):
            raise ValueError(f"{len(seeds)} seeds for {len(conditioning)} items; give one each")
        width, height = width or self.network.config.sample_size, height or self.network.config.sample_size
        multiple = 2 * self.network.config.patch_size
        if width % multiple or height % multiple:
            raise ValueError(f"width {width} and height {height} must be multiples of {multiple}")
        shape = (self.network.config.in_channels, height, width)
        latents = torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds])
        sigmas, skipped = self._sigmas(steps), 0
        if start is not None:
            skipped = steps - steps_run(steps, start.strength)
            latents = _noised(start.images, latents, sigmas[skipped])
        latents = latents.to(self.device)
        return RenderState(latents, sigmas, (skipped,) * len(seeds), conditioning, latents)

    def _sigmas(self, steps: int) -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        return scheduler.sigmas.float().cpu()

    @torch.no_grad()
    def step(self, state: RenderState) -> RenderState:
        """One Euler step of each item that is not done from its own noise level ``sigmas[progress]`` to the next."""
        if state.done:
            raise ValueError(f"all {state.steps} steps are done")
        going = [index for index, done in enumerate(state.progress) if done < state.steps]
        if len(going) == len(state.progress):
            return self._step_all(state)
        kept = torch.tensor(going, device=state.latents.device)
        stepped = self._step_all(state.select(going))
        return replace(
            state,
            latents=state.latents.index_copy(0, kept, stepped.latents),
            progress=tuple(min(done + 1, state.steps) for done in state.progress),
            denoised=state.denoised.index_copy(0, kept, stepped.denoised),
        )

    def _step_all(self, state: RenderState) -> RenderState:
        # In double precision, so that a difference or a product is rounded once.
        sigmas, done = state.sigmas.double(), torch.tensor(state.progress)
        sigma = sigmas[done]
        change = (sigmas[done + 1] - sigma).float().to(state.latents.device)[:, None, None, None]
        velocity = self._guided_velocity(state.latents, sigma, state.conditioning)
        level = sigma.float().to(state.latents.device)[:, None, None, None]
        return replace(
            state,
            latents=state.latents + change * velocity,
            progress=tuple(step + 1 for step in state.progress),
            denoised=state.latents - level * velocity,
        )

    def _guided_velocity(self, latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022) with a scale and a noise level for each item."""
        if not conditioning.guided:
            return self._velocity(latents, sigma, conditioning.positive)
        positive, negative = self._velocity(torch.cat([latents, latents]), torch.cat([sigma, sigma]), conditioning.both).chunk(2)
        scale = conditioning.guidance[:, None, None, None]
        return torch.where(scale > 1, negative + scale * (positive - negative), positive)

    def _velocity(self, latents: Tensor, sigma: Tensor, text: TextEmbeddings) -> Tensor:
        dtype = self.network.outer_position.dtype  # the property of that name looks through all modules
        timestep = (1000 * sigma).float().to(latents.device)
        text = text.to(dtype)
        return self.network(latents.to(dtype), timestep, text.tokens, text.mask, text.pooled).float()

    def decode(self, state: RenderState) -> list[Image.Image]:
        return _images(state.latents)

    def preview(self, state: RenderState) -> list[Image.Image]:
        """The images as they look to be from here; before the first step, what it starts from."""
        return _images(state.denoised)

    def restore(self, data: bytes) -> RenderState:
        """Reads what :meth:`RenderState.dump` wrote. Raises :class:`ValueError` for anything else."""
        return restore_state(data, self.device)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] = "",
        num_inference_steps: int = DEFAULT_STEPS,
        guidance_scale: float = DEFAULT_GUIDANCE,
        seed: int | Sequence[int] = 0,
        width: int | None = None,
        height: int | None = None,
    ) -> ImagePipelineOutput:
        """One image a prompt. A single ``seed`` is the first item's; the next ones count on from it."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seed + index for index in range(len(prompts))] if isinstance(seed, int) else list(seed)
        state = self.prepare(self.encode(prompts, negative_prompt, guidance_scale), seeds, width, height, num_inference_steps)
        for _ in self.progress_bar(range(state.steps)):
            state = self.step(state)
        return ImagePipelineOutput(images=self.decode(state))


def _noised(images: Sequence[Image.Image], noise: Tensor, sigma: Tensor) -> Tensor:
    """Where the straight way from each image to its noise has the noise level ``sigma``."""
    if len(images) != len(noise):
        raise ValueError(f"{len(images)} images to start from for {len(noise)} items; give one each")
    height, width = noise.shape[-2:]
    for image in images:
        if image.size != (width, height):
            raise ValueError(f"an image to start from is {image.width}x{image.height}; it must be {width}x{height}")
    pixels = torch.stack([torch.from_numpy(numpy.array(image.convert("RGB"))) for image in images])
    return (1 - sigma) * (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1) + sigma * noise


def _images(latents: Tensor) -> list[Image.Image]:
    values = latents.float().nan_to_num(-1.0).clamp(-1, 1).permute(0, 2, 3, 1).cpu().numpy()
    # Not torch's round, which wakes all of torch's threads for a few thousand values.
    return [Image.fromarray(image) for image in numpy.rint((values + 1) * 127.5).astype(numpy.uint8)]


def assemble(
    network: HourglassTransformer2DModel, text_encoder: BertModel | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> AtelierTextToImagePipeline:
    """A pipeline around ``network``, with the packaged text encoder unless one is given."""
    if text_encoder is None or tokenizer is None:
        text_encoder, tokenizer = load_text_encoder()
    pipeline = AtelierTextToImagePipeline(network.eval(), FlowMatchEulerDiscreteScheduler(), text_encoder, tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: AtelierTextToImagePipeline, directory: Path | str) -> Path:
    """Writes a diffusers directory: model_index.json, and weights as safetensors only."""
    with quiet():
        pipeline.save_pretrained(str(directory), safe_serialization=True)
    return Path(directory)


def load_pipeline(directory: Path | str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> AtelierTextToImagePipeline:
    """Loads what :func:`save_pipeline` wrote: known classes only, safetensors only, nothing fetched, no code from the directory.

    Raises :class:`ValueError` for a directory that asks for anything else, :class:`FileNotFoundError` for one without a pipeline.
    """
    directory = Path(directory)
    check_pipeline_directory(directory)
    network = cast(
        HourglassTransformer2DModel,
        load_module(HourglassTransformer2DModel, directory / "network", torch_dtype=dtype, low_cpu_mem_usage=False),
    )
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(directory), subfolder="scheduler", local_files_only=True)
    text_encoder, tokenizer = load_encoder(directory / "text_encoder"), load_tokenizer(directory / "tokenizer")
    pipeline = AtelierTextToImagePipeline(network, scheduler, text_encoder, tokenizer)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def check_pipeline_directory(directory: Path) -> None:
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    if index.get("_class_name") != AtelierTextToImagePipeline.__name__:
        raise ValueError(
            f"model_index.json names the pipeline {index.get('_class_name')!r}; only {AtelierTextToImagePipeline.__name__} is loaded"
        )
    for name, allowed in COMPONENTS.items():
        entry = index.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] not in allowed:
            raise ValueError(f"model_index.json names {entry!r} as {name}; only {', '.join(sorted(allowed))} is loaded")
    unsafe = sorted(path.name for path in directory.rglob("*") if path.suffix.lower() in UNSAFE_SUFFIXES)
    if unsafe:
        raise ValueError(f"the directory holds {', '.join(unsafe)}; a pipeline is safetensors and JSON only")
