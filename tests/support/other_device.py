"""A device that is not the CPU, for machines without a GPU: it computes on the CPU and, as a GPU does, takes no tensor that lies elsewhere.

Built on torch's support for devices written in Python. Importing it registers the device with torch for the rest of the process, so it
belongs into a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "other"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)
#: A GPU is indexed by numbers that lie on the CPU too.
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class OtherTensor(torch.Tensor):
    """Wraps the tensor of the CPU that holds its values."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> OtherTensor:
        made: OtherTensor = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype, device=DEVICE
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _call(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """While it is entered, tensors can be made on the device and moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _call(func, args, kwargs or {})


def move(module: torch.nn.Module) -> None:
    """Its weights and buffers to the device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            part._parameters[name] = weight if weight is None else torch.nn.Parameter(OtherTensor(weight.data), requires_grad=False)
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer if buffer is None else OtherTensor(buffer)


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, OtherTensor) else value


def _wrapped(value: Any) -> Any:
    return OtherTensor(value) if isinstance(value, torch.Tensor) and not isinstance(value, OtherTensor) else value


def _call(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name, wanted = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    there = any(isinstance(tensor, OtherTensor) for tensor in tensors)
    if there and name != "_to_copy" and name != "copy_" and name not in _INDEXING:
        _refuse_mixture(func, tensors)
    plain = {**kwargs, **({} if wanted is None else {"device": torch.device("cpu")})}
    result = func(*tree_map(_plain, list(args)), **tree_map(_plain, plain))
    if name == "copy_" or (there and func._schema.is_mutable):
        return args[0]
    on_it = there if wanted is None else torch.device(wanted).type == NAME
    return tree_map(_wrapped, result) if on_it else result


def _refuse_mixture(func: Any, tensors: Sequence[torch.Tensor]) -> None:
    """Scalars apart, which a GPU takes from anywhere."""
    if any(not isinstance(tensor, OtherTensor) and tensor.dim() for tensor in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {DEVICE} and cpu")


def _empty(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """What torch calls where it makes a tensor itself, past the mode."""

    def empty(*sizes: Any, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
        return OtherTensor(make(*sizes, dtype=dtype, device="cpu"))

    return empty


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _plain(target).copy_(_plain(source))
    return target


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty_strided", _empty(torch.empty_strided), "PrivateUse1")
_library.impl("empty.memory_format", _empty(torch.empty), "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
