"""Low-rank adapters (Hu et al. 2021): put beside the frozen weights of a network, and written as diffusers writes them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from models.training.config import TrainingConfig

ADAPTER = "adapter"  #: the directory in a run's output
WEIGHTS = "pytorch_lora_weights.safetensors"  #: the name that diffusers looks for
METADATA = "lora_adapter_metadata"  #: key of the file's metadata under which diffusers keeps rank, scale and targets
_NAME = "default"  #: peft puts it into each weight's name, files leave it out


def add_adapters(network: nn.Module, config: TrainingConfig, attention: tuple[str, ...]) -> None:
    """Freezes the network and puts an adapter beside each target layer; the second of its factors is zero, so nothing changes yet.

    Raises :class:`ValueError` where no layer has such a name.
    """
    network.requires_grad_(False)
    torch.manual_seed(config.seed)
    try:
        inject_adapter_in_model(_peft_config(config, attention), network, adapter_name=_NAME)
    except ValueError as error:
        raise ValueError(f"lora_targets: {error}") from error


def _peft_config(config: TrainingConfig, attention: tuple[str, ...]) -> LoraConfig:
    return LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=sorted(config.lora_targets or attention))


def save_adapter(weights: dict[str, Tensor], config: TrainingConfig, attention: tuple[str, ...], component: str, directory: Path) -> Path:
    """Writes the adapters' weights as ``COMPONENT.LAYER.lora_A.weight`` and so on, in fp32, with rank and scale in the metadata."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {f"{component}.{name.replace(f'.{_NAME}.', '.')}": value.detach().cpu().contiguous() for name, value in weights.items()}
    settings = {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.lora_targets or attention)}
    facts = json.dumps({f"{component}.{name}": value for name, value in settings.items()}, sort_keys=True)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt", METADATA: facts})
    return directory
