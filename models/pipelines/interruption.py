"""A denoising step that nobody wants any more is left between two blocks of the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_asked = threading.local()


class InterruptedStepError(Exception):
    """Nobody wants the step. Everything is as it was before it."""


@contextmanager
def interruptible(wanted: Callable[[], bool]) -> Iterator[None]:
    """In this thread, what :func:`make_interruptible` prepared asks ``wanted`` before each block and raises :class:`InterruptedStepError`
    once that says no."""
    _asked.wanted = wanted
    try:
        yield
    finally:
        del _asked.wanted


def make_interruptible(network: nn.Module) -> None:
    """Where the network runs block by block. One that was compiled or exported runs whole, and so does one that has no blocks."""
    import torch

    def ask(*_: object) -> None:
        if torch.compiler.is_compiling():
            return
        wanted = getattr(_asked, "wanted", None)
        if wanted is not None and not wanted():
            raise InterruptedStepError

    for block in outer_blocks(network):
        block.register_forward_pre_hook(ask)


def outer_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost module lists: what our networks, and those of diffusers, run one after another."""
    from torch import nn

    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from outer_blocks(child)
