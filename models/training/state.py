"""All that a training run carries from step to step, and its checkpoint: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.training.config import TrainingConfig

CHECKPOINT = "checkpoint"


class TrainingState:
    """fp32 weights, their moving average, the optimizers, and the copy of the weights that does the arithmetic.

    Noise and sample order are functions of the seed and the step, so that there is no generator state to carry.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self.config = config
        self.step = 0
        self.network = network.float().requires_grad_(True)
        self.working = _copy_of(network, torch.bfloat16 if config.precision == "bf16" else torch.float32)
        self.averaged = _copy_of(network, torch.float32).requires_grad_(False)
        self.optimizers = _optimizers(self.network, config)

    def update(self) -> None:
        """One optimizer step from the gradients of the working copy."""
        weights, working = list(self.network.parameters()), list(self.working.parameters())
        for weight, copy in zip(weights, working, strict=True):
            weight.grad = None if copy.grad is None else copy.grad.float()
            copy.grad = None
        nn.utils.clip_grad_norm_(weights, self.config.gradient_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            torch._foreach_copy_(working, weights)
            # A short average at first, or it would hold on to the initial weights (Karras et al. 2024 use a power law to that end).
            decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.averaged.parameters()), weights, 1 - decay)

    def save(self, directory: Path) -> None:
        """Replaces the checkpoint in ``directory``; a crash leaves the earlier one."""
        work, target, old = (directory / f"{CHECKPOINT}{suffix}" for suffix in (".new", "", ".old"))
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_file(self._tensors(), work / "state.safetensors")
        (work / "state.json").write_text(json.dumps({"step": self.step, "seed": self.config.seed}))
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.rename(target, old)
        os.rename(work, target)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self, directory: Path) -> bool:
        """Takes over the checkpoint in ``directory`` if there is one. Raises :class:`ValueError` for that of another run."""
        found = next((path for path in (directory / CHECKPOINT, directory / f"{CHECKPOINT}.old") if (path / "state.json").exists()), None)
        if found is None:
            return False
        facts = json.loads((found / "state.json").read_text())
        if facts["seed"] != self.config.seed:
            raise ValueError(
                f"seed: {found} is of a run with seed {facts['seed']}, not {self.config.seed}; choose another output directory"
            )
        with safe_open(found / "state.safetensors", framework="pt") as file:
            self._take({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
        self.step = facts["step"]
        return True

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        for place, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{place}.{index}.{name}": value for name, value in values.items()}
        return {name: value.detach().contiguous() for name, value in tensors.items()}

    def _take(self, tensors: dict[str, Tensor]) -> None:
        for name, module in (("network", self.network), ("averaged", self.averaged), ("network", self.working)):
            module.load_state_dict({key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")})
        for place, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{place}."):
                    _, _, index, name = key.split(".", 3)
                    state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _copy_of(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    copy = type(network).from_config(network.config)
    copy.load_state_dict(network.state_dict())
    return nn.Module.to(copy, dtype)


def _optimizers(network: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    matrices = (
        [weight for name, weight in network.named_parameters() if _is_block_matrix(name, weight)] if config.optimizer == "muon" else []
    )
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in network.parameters() if id(weight) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, foreach=True)
    if not matrices:
        return [adamw]
    return [torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"), adamw]


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and name.split(".")[0] in ("down", "inner", "up") and name.endswith("weight")
