"""All that a training run carries from step to step."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from models.training.config import TrainingConfig


class DivergedError(RuntimeError):
    """A loss or a gradient is no finite number; the weights are those from before the step."""


class TrainingState:
    """fp32 weights, their moving average, the optimizers, and the network that does the arithmetic.

    Only the weights that require gradients are carried: all of them, or the adapters. Noise and sample order are functions of the seed and
    the step, so that there is no generator state to carry.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig, memory_format: torch.memory_format = torch.contiguous_format) -> None:
        self.config = config
        self.step = 0
        self.micro_batch = config.micro_batch or config.batch_size
        self.averaged = copy.deepcopy(network).float().to(memory_format=memory_format).requires_grad_(False).eval()
        self.working = nn.Module.to(network, arithmetic(config)).to(memory_format=memory_format).train()
        copies = {name: weight for name, weight in self.working.named_parameters() if weight.requires_grad}
        averages = dict(self.averaged.named_parameters())
        self.weights = {name: nn.Parameter(averages[name].clone()) for name in copies}
        self._copies, self._averages = list(copies.values()), [averages[name] for name in copies]
        self.optimizers = _optimizers(self.weights, config)

    def collect(self) -> None:
        """Adds the gradients that a backward pass left in the working network to those of the fp32 weights."""
        for weight, working in zip(self.weights.values(), self._copies, strict=True):
            if working.grad is not None:
                gradient = working.grad.float()
                weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
                working.grad = None

    def forget_gradients(self) -> None:
        for weight in [*self.weights.values(), *self._copies]:
            weight.grad = None

    def gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    def update(self) -> None:
        """One optimizer step from the collected gradients. Raises :class:`DivergedError` and changes nothing where they aren't finite."""
        norm = nn.utils.clip_grad_norm_(list(self.weights.values()), self.config.gradient_clip).item()
        if not math.isfinite(norm):
            self.forget_gradients()
            raise DivergedError(f"the gradient's norm is {norm} at step {self.step + 1}")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._spread()

    @torch.no_grad()
    def _spread(self) -> None:
        """Hands the new weights to the working network and to the average."""
        weights = list(self.weights.values())
        torch._foreach_copy_(self._copies, weights)
        # A short average at first, or it would hold on to the initial weights (Karras et al. 2024 use a power law to that end).
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averages, weights, 1 - decay)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The moving averages of what is trained, by name."""
        return dict(zip(self.weights, self._averages, strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """All of it for a checkpoint, beside ``step`` and ``micro_batch``."""
        tensors: dict[str, Tensor] = {f"network.{name}": value for name, value in self.weights.items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged_weights().items()}
        for place, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{place}.{index}.{name}": value for name, value in values.items()}
        return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def take(self, tensors: dict[str, Tensor], step: int, micro_batch: int) -> None:
        """Takes over what :meth:`tensors` gave. Raises :class:`ValueError` for that of another network."""
        missing = [name for name in self.weights if tensors.get(f"network.{name}", torch.empty(0)).shape != self.weights[name].shape]
        if missing:
            raise ValueError(f"network: the checkpoint has no fitting weight {missing[0]}; choose another output directory")
        with torch.no_grad():
            for (name, weight), working, averaged in zip(self.weights.items(), self._copies, self._averages, strict=True):
                weight.copy_(tensors[f"network.{name}"])
                working.copy_(tensors[f"network.{name}"])
                averaged.copy_(tensors[f"averaged.{name}"])
        for place, optimizer in enumerate(self.optimizers):
            _take_optimizer(optimizer, tensors, f"optimizer.{place}.")
        self.step, self.micro_batch = step, micro_batch


def _take_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Each tensor in the memory layout of its weight: in another one, the last bits of a step may be others."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split(".", 1)
            like = weights[int(index)]
            state.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def arithmetic(config: TrainingConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def _optimizers(weights: dict[str, nn.Parameter], config: TrainingConfig) -> list[torch.optim.Optimizer]:
    muon = config.optimizer == "muon" and config.method == "full"
    matrices = [weight for name, weight in weights.items() if muon and _is_block_matrix(name, weight)]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in weights.values() if id(weight) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    return [torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"), adamw]


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and name.split(".")[0] in ("down", "inner", "up") and name.endswith("weight")
