from __future__ import annotations

import pytest
import torch
from torch import nn

from models.training.config import TrainingConfig
from models.training.state import DivergedError, TrainingState

PLAIN = {"precision": "fp32", "optimizer": "adamw", "learning_rate": 0.5, "warmup_steps": 0, "decay_fraction": 0.0}


def state_of(**changes: object) -> TrainingState:
    torch.manual_seed(0)
    return TrainingState(nn.Linear(3, 2), TrainingConfig.model_validate(PLAIN | changes))


def step(state: TrainingState, gradient: float = 1.0) -> dict[str, torch.Tensor]:
    """The weights after an update with that gradient everywhere."""
    for weight in state.weights.values():
        weight.grad = torch.full_like(weight, gradient)
    state.update()
    return {name: weight.detach().clone() for name, weight in state.weights.items()}


def test_the_averages_follow_the_weights_by_the_decay_which_is_short_at_first() -> None:
    state = state_of(ema_decay=0.3)
    expected = {name: weight.clone() for name, weight in state.averaged_weights().items()}
    for decay in (2 / 11, 3 / 12, 0.3, 0.3):  # (1 + step) / (10 + step) until that is more than the setting
        weights = step(state)
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in weights}
        for name, average in state.averaged_weights().items():
            torch.testing.assert_close(average, expected[name])


def test_without_a_decay_the_averages_are_the_weights() -> None:
    state = state_of(ema_decay=0.0)
    weights = step(state)
    assert all(torch.equal(average, weights[name]) for name, average in state.averaged_weights().items())


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    state = state_of()
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    with pytest.raises(DivergedError, match="step 1"):
        step(state, float("nan"))
    assert state.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def test_the_copies_that_do_the_arithmetic_follow_in_its_precision() -> None:
    state = state_of(precision="bf16")
    weights = step(state)
    assert all(torch.equal(copy, weights[name].bfloat16()) for name, copy in state.working.named_parameters())
