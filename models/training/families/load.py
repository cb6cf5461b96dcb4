"""Which family a training starts from."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_encoder import load_text_encoder
from models.pipelines.text_to_image import load_pipeline
from models.training.config import TrainingConfig
from models.training.families.base import Family
from models.training.families.hourglass import HourglassFamily

BASE = "base"  #: the shipped checkpoint


def load_family(config: TrainingConfig, init: str) -> Family:
    """From random weights for an empty ``init``, from the shipped checkpoint for ``base``, else from that pipeline directory.

    Raises :class:`ValueError` for a pipeline that can't be trained, :class:`FileNotFoundError` for a directory that holds none.
    """
    if init == BASE:
        from models.training.base_model import load_base_network

        return HourglassFamily(load_base_network(), *load_text_encoder())
    if init:
        return _from_directory(Path(init))
    torch.manual_seed(config.seed)
    return HourglassFamily(_scratch(config), *load_text_encoder())


def _scratch(config: TrainingConfig) -> HourglassTransformer2DModel:
    try:
        return HourglassTransformer2DModel(**config.network)
    except TypeError as error:
        raise ValueError(f"network: {str(error).split('__init__() ')[-1]}") from error


def _from_directory(directory: Path) -> Family:
    index = directory / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"init: {directory} holds no pipeline: there is no model_index.json in it")
    kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    if kind == "StableDiffusionPipeline":
        from models.training.families.stable_diffusion import StableDiffusionFamily  # imports diffusers' whole pipeline

        return StableDiffusionFamily.load(directory)
    pipeline = load_pipeline(directory)
    return HourglassFamily(pipeline.network, pipeline.text_encoder, pipeline.tokenizer)
