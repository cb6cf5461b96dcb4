"""From a published directory to a pipeline: known classes only, safetensors only, nothing fetched, no code from the directory."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from models.pipelines.adapters import AdaptablePipeline, NetworkLora, PipelineLora
from models.pipelines.diffusers_families import Flux, StableDiffusion, StableDiffusion3, StableDiffusionXL
from models.pipelines.diffusers_text_to_image import DiffusersTextToImage
from models.pipelines.modules import load_module
from models.pipelines.text_encoder import quiet
from models.pipelines.text_to_image import UNSAFE_SUFFIXES, AtelierTextToImagePipeline, load_pipeline
from models.schedulers.item_sampler import REMEMBERED

_FLOW = {"FlowMatchEulerDiscreteScheduler"}
_DIFFUSION = REMEMBERED.keys() - _FLOW
_CLIP_TOKENIZERS, _T5_TOKENIZERS = {"CLIPTokenizer", "CLIPTokenizerFast"}, {"T5Tokenizer", "T5TokenizerFast"}
_STABLE_DIFFUSION = {
    "unet": {"UNet2DConditionModel"},
    "vae": {"AutoencoderKL"},
    "scheduler": _DIFFUSION,
    "text_encoder": {"CLIPTextModel"},
    "tokenizer": _CLIP_TOKENIZERS,
}
_THREE_ENCODERS = {
    "text_encoder": {"CLIPTextModelWithProjection"},
    "tokenizer": _CLIP_TOKENIZERS,
    "text_encoder_2": {"CLIPTextModelWithProjection"},
    "tokenizer_2": _CLIP_TOKENIZERS,
    "text_encoder_3": {"T5EncoderModel"},
    "tokenizer_3": _T5_TOKENIZERS,
}
#: By ``_class_name``: who renders it, whose ``from_pretrained`` loads it, and the only classes that it may name, by component.
FAMILIES: dict[str, tuple[type[DiffusersTextToImage], type[DiffusionPipeline], dict[str, Any]]] = {
    "StableDiffusionPipeline": (StableDiffusion, StableDiffusionPipeline, _STABLE_DIFFUSION),
    "StableDiffusionXLPipeline": (
        StableDiffusionXL,
        StableDiffusionXLPipeline,
        {**_STABLE_DIFFUSION, "text_encoder_2": {"CLIPTextModelWithProjection"}, "tokenizer_2": _CLIP_TOKENIZERS},
    ),
    "StableDiffusion3Pipeline": (
        StableDiffusion3,
        StableDiffusion3Pipeline,
        {**_THREE_ENCODERS, "transformer": {"SD3Transformer2DModel"}, "vae": {"AutoencoderKL"}, "scheduler": _FLOW},
    ),
    "FluxPipeline": (
        Flux,
        FluxPipeline,
        {
            "transformer": {"FluxTransformer2DModel"},
            "vae": {"AutoencoderKL"},
            "scheduler": _FLOW,
            "text_encoder": {"CLIPTextModel"},
            "tokenizer": _CLIP_TOKENIZERS,
            "text_encoder_2": {"T5EncoderModel"},
            "tokenizer_2": _T5_TOKENIZERS,
        },
    ),
}
#: What a directory may name but is left out: the platform has a safety checker of its own, and no use for the others.
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
#: Without its largest encoder, Stable Diffusion 3 renders too.
MAY_LACK = frozenset({"text_encoder_3", "tokenizer_3"})
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}


def load_text_to_image(directory: Path, device: str) -> AdaptablePipeline:
    """The pipeline that ``model_index.json`` names, ours or one of :data:`FAMILIES`.

    On a GPU weights keep the precision that they are stored in; on the CPU they become float32. Raises :class:`ValueError` for a
    directory that asks for anything else, :class:`FileNotFoundError` for one without a pipeline.
    """
    index = read_index(directory)
    name = index.get("_class_name")
    if name == AtelierTextToImagePipeline.__name__:
        pipeline = load_pipeline(directory, device=device)
        return AdaptablePipeline(pipeline, NetworkLora(pipeline.network))
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join([AtelierTextToImagePipeline.__name__, *FAMILIES])
        raise ValueError(f"model_index.json names the pipeline {name!r}; only {known} are loaded")
    renderer, loader, components = FAMILIES[name]
    _check(directory, index, components)
    dtype = torch.float32 if device == "cpu" else _stored_dtype(directory / renderer.network_name)
    with quiet():
        modules = _modules(directory, index, components, dtype)
        pipe = loader.from_pretrained(str(directory), local_files_only=True, **modules, **dict.fromkeys(_named(index, LEFT_OUT)))
    pipe.to(device)
    return AdaptablePipeline(renderer(pipe), PipelineLora(pipe))


def _modules(directory: Path, index: dict[str, Any], components: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """Those of the components that have weights, by name."""
    found: dict[str, torch.nn.Module] = {}
    for name in components:
        library, kind = index.get(name) or ("", "")
        if library == "transformers" and not name.startswith("tokenizer"):
            found[name] = load_module(getattr(transformers, kind), directory / name, dtype=dtype)
        elif library == "diffusers" and name != "scheduler":
            found[name] = load_module(getattr(diffusers, kind), directory / name, torch_dtype=dtype)
    return found


def read_index(directory: Path) -> dict[str, Any]:
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    if not isinstance(index, dict):
        raise ValueError("model_index.json is not a JSON object")
    return index


def _check(directory: Path, index: dict[str, Any], components: dict[str, Any]) -> None:
    """Every component must be named, by a class that it may be of; nothing that the pipeline class would load besides may be."""
    for name, allowed in components.items():
        entry = index.get(name)
        absent = name in MAY_LACK and entry in (None, [None, None])
        library = "transformers" if "text" in name or "tokenizer" in name else "diffusers"
        if not absent and (not isinstance(entry, list) or len(entry) != 2 or entry[0] != library or entry[1] not in allowed):
            raise ValueError(f"model_index.json names {entry!r} as {name}; only {', '.join(sorted(allowed))} of {library} is loaded")
    for name, entry in index.items():
        if isinstance(entry, list) and entry[:1] != [None] and name not in components and name not in LEFT_OUT and len(entry) == 2:
            raise ValueError(f"model_index.json names {entry!r} as {name}, which is not a part of {index['_class_name']}; take it out")
    _check_files(directory)


def _check_files(directory: Path) -> None:
    paths = list(directory.rglob("*"))
    unsafe = sorted(path.name for path in paths if path.suffix.lower() in UNSAFE_SUFFIXES or path.name == "adapter_config.json")
    if unsafe:
        raise ValueError(
            f"the directory holds {', '.join(unsafe)}; a pipeline is safetensors and JSON only, its adapters are published apart"
        )
    for path in paths:
        if path.name.endswith(".safetensors.index.json"):
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            outside = sorted(shard for shard in shards if Path(shard).name != shard or not (path.parent / shard).is_file())
            if outside:
                raise ValueError(f"{path.name} names {', '.join(outside[:3])}; shards must be files beside it")


def _stored_dtype(directory: Path) -> torch.dtype:
    """Of the first tensor of the first file of weights; float32 for any but half precision."""
    path = min(directory.glob("*.safetensors"), default=None)
    if path is None:
        raise ValueError(f"{directory.name} has no safetensors")
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(min(length, path.stat().st_size)))
    first = next(entry for name, entry in header.items() if name != "__metadata__")
    return _DTYPES.get(first["dtype"], torch.float32)


def _named(index: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in index]
