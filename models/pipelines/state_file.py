"""A render between two steps as one safetensors file in memory: tensors, and what else there is as JSON in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

_LENGTH_BYTES = 8  #: of the header's length, little endian, in front of the header
_KEY = "state"


def pack(kind: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> bytes:
    """``kind`` names what wrote it, with its version; ``values`` are what JSON can say. Equal states give equal bytes."""
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(copies, {_KEY: json.dumps({"kind": kind, "values": dict(values)})})


def unpack(kind: str, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`pack` was given. Raises :class:`ValueError` for anything that it did not write, or wrote for another kind."""
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        state = json.loads(json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"][_KEY])
        found, values = state["kind"], state["values"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the state of a render: {error}") from error
    if found != kind:
        raise ValueError(f"the state of a render of {found}; {kind} is needed")
    return tensors, values
