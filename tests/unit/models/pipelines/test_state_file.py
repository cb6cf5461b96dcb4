from __future__ import annotations

import pytest
import torch

from models.pipelines.state_file import pack, unpack

TENSORS = {"latents": torch.randn(2, 3, 4, 4), "mask": torch.tensor([True, False]), "half": torch.ones(3, dtype=torch.bfloat16)}
VALUES = {"steps": 4, "progress": [1, 2], "name": "größer"}


def test_what_was_packed_comes_back_bit_for_bit() -> None:
    tensors, values = unpack("test/1", pack("test/1", TENSORS, VALUES))
    assert values == VALUES
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) and tensors[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_views_of_one_tensor_can_be_packed() -> None:
    whole = torch.arange(6)
    tensors, _ = unpack("test/1", pack("test/1", {"first": whole[:3], "strided": whole[::2]}, {}))
    assert tensors["first"].tolist() == [0, 1, 2]
    assert tensors["strided"].tolist() == [0, 2, 4]


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of test/1; other/1 is needed"):
        unpack("other/1", pack("test/1", TENSORS, VALUES))


@pytest.mark.parametrize("cut", [0, 4, 60, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="not the state of a render"):
        unpack("test/1", pack("test/1", TENSORS, VALUES)[:cut])


def test_other_safetensors_are_refused() -> None:
    import safetensors.torch

    with pytest.raises(ValueError, match="not the state of a render"):
        unpack("test/1", safetensors.torch.save({"weight": torch.ones(2)}))
