from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.backends.calls import Call, CallError


class Denoiser(nn.Module):
    def forward(
        self, sample: Tensor, timestep: Tensor, extra: dict[str, Tensor] | None = None, txt_ids: Tensor | None = None, flag: bool = True
    ) -> Tensor:
        return sample


def call(batch: int, *, side: int = 8, flag: bool = True) -> Call:
    rows = torch.arange(batch, dtype=torch.float32)
    kwargs = {"extra": {"time_ids": rows[:, None].repeat(1, 3)}, "txt_ids": torch.zeros(batch, 3), "flag": flag}
    return Call.of(Denoiser(), [rows[:, None, None, None].repeat(1, 3, side, side), torch.tensor(5)], kwargs)


def test_calls_that_differ_in_their_batch_only_have_one_signature() -> None:
    assert (
        Call.of(Denoiser(), [torch.zeros(2, 3, 8, 8), torch.tensor(5)], {}).key
        == Call.of(Denoiser(), [torch.ones(7, 3, 8, 8), torch.tensor(9)], {}).key
    )


def test_another_side_or_another_flag_is_another_signature() -> None:
    keys = {call(2).key, call(2, side=16).key, call(2, flag=False).key}
    assert len(keys) == 3


def test_calls_of_one_form_have_one_key() -> None:
    assert call(2).form == call(2).form and call(2).key == call(2).key
    assert len({call(2).form, call(3).form, call(2, side=16).form, call(2, flag=False).form, call(2, flag=0).form}) == 5  # type: ignore[arg-type]


def test_arguments_come_back_as_they_were_given() -> None:
    given = call(2)
    arguments = given.arguments(given.tensors)
    assert set(arguments) == {"sample", "timestep", "extra", "txt_ids", "flag"}
    assert arguments["flag"] is True
    assert torch.equal(arguments["extra"]["time_ids"][:, 0], torch.tensor([0.0, 1.0]))


def test_only_rows_of_items_are_resized() -> None:
    sample, timestep, pooled, ids = call(2).resized(5)
    assert sample[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert (timestep.ndim, len(pooled), len(ids)) == (0, 5, 2)


def test_an_argument_that_no_graph_can_take_is_refused_by_name() -> None:
    with pytest.raises(CallError, match=r"'extra'.*object"):
        Call.of(Denoiser(), [torch.zeros(1, 3, 8, 8), torch.tensor(1)], {"extra": object()})
