"""Calls of a denoiser as flat lists of tensors, which is what compiled graphs take."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

SHARED = ("img_ids", "txt_ids")  #: places of tokens, the same for all items whatever their number
PLAIN = (bool, int, float, str, type(None))


class CallError(ValueError):
    """The call has arguments that no graph can be made for."""


@dataclass(frozen=True)
class Call:
    """The arguments of one call of ``forward``, tensors apart from everything else."""

    tensors: tuple[Tensor, ...]
    paths: tuple[str, ...]  #: where each tensor is among the arguments, such as ``['sample']``
    constants: tuple[Any, ...]  #: all leaves in order, None where a tensor goes
    places: tuple[int, ...]  #: position of each tensor among the leaves
    spec: pytree.TreeSpec

    @classmethod
    def of(cls, denoiser: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """Raises :class:`CallError` for arguments other than tensors, numbers, strings, None, and lists and dicts of them."""
        bound = _signature(type(denoiser).forward).bind(denoiser, *args, **kwargs).arguments
        bound.pop("self")
        return cls.of_arguments(dict(bound))

    @classmethod
    def of_arguments(cls, arguments: dict[str, Any]) -> Call:
        leaves, paths, spec = _leaves(arguments)
        for path, leaf in zip(paths, leaves, strict=True):
            if not isinstance(leaf, (Tensor, *PLAIN)):
                raise CallError(f"argument {path} is a {type(leaf).__name__}; a graph takes tensors and plain values")
        places = tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
        constants = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        return cls(tuple(leaves[place] for place in places), tuple(paths[place] for place in places), constants, places, spec)

    @property
    def batch(self) -> int:
        """Items of the call: the first dimension of its first tensor, which diffusers calls ``sample`` or ``hidden_states``."""
        return self.tensors[0].shape[0]

    @property
    def batched(self) -> tuple[bool, ...]:
        """Whether each tensor has a row an item. What is :data:`SHARED` has none."""
        batch = self.batch
        return tuple(
            tensor.ndim > 0 and tensor.shape[0] == batch and not any(name in path for name in SHARED)
            for tensor, path in zip(self.tensors, self.paths, strict=True)
        )

    @property
    def signature(self) -> str:
        """The same for calls that differ only in how many items they have and in what the tensors hold."""
        shapes = [
            f"{path} {tensor.dtype} {('B', *tensor.shape[1:]) if batched else tuple(tensor.shape)}"
            for path, tensor, batched in zip(self.paths, self.tensors, self.batched, strict=True)
        ]
        return "; ".join([*shapes, repr(self.constants), str(self.spec), self.tensors[0].device.type])

    @property
    def key(self) -> str:
        return signature_key(self.signature)

    @property
    def form(self) -> Hashable:
        """Calls of one form have one signature; comparing forms is quicker."""
        tensors = tuple((tensor.shape, tensor.dtype, tensor.device.type) for tensor in self.tensors)
        return self.spec, tensors, self.constants, tuple(map(type, self.constants)), self.places

    def arguments(self, tensors: Sequence[Tensor]) -> dict[str, Any]:
        """The call's arguments by name, with other tensors in the tensors' places."""
        leaves = list(self.constants)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        return pytree.tree_unflatten(leaves, self.spec)

    def resized(self, batch: int) -> tuple[Tensor, ...]:
        """The call's tensors with ``batch`` items, their rows repeated as often as needed."""
        rows = [index % self.batch for index in range(batch)]
        return tuple(tensor[rows] if batched else tensor for tensor, batched in zip(self.tensors, self.batched, strict=True))


def signature_key(signature: str) -> str:
    return hashlib.sha256(signature.encode()).hexdigest()[:16]


def _leaves(arguments: dict[str, Any]) -> tuple[Sequence[Any], tuple[str, ...], pytree.TreeSpec]:
    """All leaves of the arguments, where each is, and how they are put together again."""
    if any(isinstance(argument, (dict, list, tuple)) for argument in arguments.values()):
        pairs, spec = pytree.tree_flatten_with_path(arguments)
        return [leaf for _, leaf in pairs], tuple(pytree.keystr(path) for path, _ in pairs), spec
    return list(arguments.values()), *_flat(tuple(arguments))


@lru_cache(maxsize=64)
def _flat(names: tuple[str, ...]) -> tuple[tuple[str, ...], pytree.TreeSpec]:
    """Paths and structure of arguments that hold no others; a step of a small network takes only a few times as long as finding them."""
    pairs, spec = pytree.tree_flatten_with_path(dict.fromkeys(names, 0))
    return tuple(pytree.keystr(path) for path, _ in pairs), spec


@lru_cache(maxsize=64)
def _signature(forward: Callable[..., Any]) -> inspect.Signature:
    """Of a class's own ``forward``; reading it takes longer than the rest of a call's bookkeeping."""
    return inspect.signature(forward)
