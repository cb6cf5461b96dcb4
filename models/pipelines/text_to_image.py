"""Text to image by a rectified flow on pixels, as a diffusers pipeline whose loop may be owned by somebody else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerBase

from models.networks.hourglass_transformer import HourglassTransformer2DModel
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


@dataclass(frozen=True)
class Conditioning:
    """What a batch of items is rendered to."""

    positive: TextEmbeddings
    negative: TextEmbeddings
    guidance: Tensor  #: (B,) scales; 1 or less turns guidance off

    def __len__(self) -> int:
        return len(self.guidance)

    def select(self, kept: Tensor) -> Conditioning:
        return Conditioning(self.positive[kept], self.negative[kept], self.guidance[kept])


@dataclass(frozen=True)
class RenderState:
    """A render between two steps: plain tensors and numbers, so that it can be stored and go on elsewhere."""

    latents: Tensor  #: (B, 3, H, W) float32, noise at first, the image in -1..1 at last
    sigmas: Tensor  #: (steps + 1,) noise levels from 1 to 0
    step: int  #: steps done
    conditioning: Conditioning
    denoised: Tensor | None = None  #: (B, 3, H, W) the image as predicted at the last step

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def done(self) -> bool:
        return self.step >= self.steps

    def select(self, indices: Sequence[int]) -> RenderState:
        """The render without the other items, for when some are cancelled."""
        kept = torch.tensor(indices, dtype=torch.long, device=self.latents.device)
        denoised = None if self.denoised is None else self.denoised[kept]
        return replace(self, latents=self.latents[kept], conditioning=self.conditioning.select(kept), denoised=denoised)


class AtelierTextToImagePipeline(DiffusionPipeline):
    """Renders prompts. ``__call__`` does it all; ``encode``, ``prepare``, ``step`` and ``decode`` leave the loop to the caller."""

    model_cpu_offload_seq = "text_encoder->network"

    def __init__(
        self,
        network: HourglassTransformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        text_encoder: BertModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], negative_prompts: Sequence[str] | str = "", guidance: Sequence[float] | float = DEFAULT_GUIDANCE
    ) -> Conditioning:
        """Conditioning of one item a prompt; a single negative prompt or guidance serves all of them."""
        negatives = [negative_prompts] * len(prompts) if isinstance(negative_prompts, str) else list(negative_prompts)
        scales = [float(guidance)] * len(prompts) if isinstance(guidance, (int, float)) else [float(scale) for scale in guidance]
        if not len(prompts) == len(negatives) == len(scales):
            raise ValueError(f"{len(prompts)} prompts, {len(negatives)} negative prompts and {len(scales)} guidance scales must be as many")
        positive, negative = self._encode_each(prompts), self._encode_each(negatives)
        return Conditioning(positive, negative, torch.tensor(scales, device=self.device))

    def _encode_each(self, texts: Sequence[str]) -> TextEmbeddings:
        """One text at a time, for padding to the longest of a batch would change the last bits of the others; equal ones once."""
        length = self.network.config.text_length
        encoded = {text: encode_text(self.text_encoder, self.tokenizer, [text], length) for text in set(texts)}
        return TextEmbeddings.join([encoded[text] for text in texts])

    def prepare(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        width: int | None = None,
        height: int | None = None,
        steps: int = DEFAULT_STEPS,
    ) -> RenderState:
        """Initial noise: each item's from its own seed on the CPU, so that it depends on neither the batch nor the device."""
        if len(seeds) != len(conditioning):
            raise ValueError(f"{len(seeds)} seeds for {len(conditioning)} items; give one each")
        width, height = width or self.network.config.sample_size, height or self.network.config.sample_size
        multiple = 2 * self.network.config.patch_size
        if width % multiple or height % multiple:
            raise ValueError(f"width {width} and height {height} must be multiples of {multiple}")
        shape = (self.network.config.in_channels, height, width)
        noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
        return RenderState(torch.stack(noise).to(self.device), self._sigmas(steps), 0, conditioning)

    def _sigmas(self, steps: int) -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        return scheduler.sigmas.float().cpu()

    @torch.no_grad()
    def step(self, state: RenderState) -> RenderState:
        """One Euler step of all items from noise level ``sigmas[step]`` to the next."""
        if state.done:
            raise ValueError(f"all {state.steps} steps are done")
        sigma, following = state.sigmas[state.step].item(), state.sigmas[state.step + 1].item()
        velocity = self._guided_velocity(state.latents, sigma, state.conditioning)
        latents = state.latents + (following - sigma) * velocity
        return replace(state, latents=latents, step=state.step + 1, denoised=state.latents - sigma * velocity)

    def _guided_velocity(self, latents: Tensor, sigma: float, conditioning: Conditioning) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022) with a scale for each item."""
        if not (conditioning.guidance > 1).any():
            return self._velocity(latents, sigma, conditioning.positive)
        both = TextEmbeddings.join([conditioning.positive, conditioning.negative])
        positive, negative = self._velocity(torch.cat([latents, latents]), sigma, both).chunk(2)
        scale = conditioning.guidance[:, None, None, None]
        return torch.where(scale > 1, negative + scale * (positive - negative), positive)

    def _velocity(self, latents: Tensor, sigma: float, text: TextEmbeddings) -> Tensor:
        dtype = self.network.dtype
        timestep = torch.full((len(latents),), 1000 * sigma, device=latents.device)
        text = text.to(dtype)
        return self.network(latents.to(dtype), timestep, text.tokens, text.mask, text.pooled).float()

    def decode(self, state: RenderState) -> list[Image.Image]:
        return _images(state.latents)

    def preview(self, state: RenderState) -> list[Image.Image]:
        """The images as they look to be from here; noise before the first step."""
        return _images(state.latents if state.denoised is None else state.denoised)

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


def _images(latents: Tensor) -> list[Image.Image]:
    pixels = ((latents.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in pixels]


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
    network = HourglassTransformer2DModel.from_pretrained(
        str(directory), subfolder="network", use_safetensors=True, local_files_only=True, torch_dtype=dtype, low_cpu_mem_usage=False
    )
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(directory), subfolder="scheduler", local_files_only=True)
    text_encoder, tokenizer = load_encoder(directory / "text_encoder"), load_tokenizer(directory / "tokenizer")
    pipeline = AtelierTextToImagePipeline(network.eval(), scheduler, text_encoder, tokenizer)
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
