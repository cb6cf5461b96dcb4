"""Classifiers and captioners that other packages bring, by the name under which they are installed; nothing is imported by path."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any


@lru_cache(maxsize=16)
def find_hook(group: str, name: str) -> Callable[..., Any]:
    """Raises :class:`LookupError` that names what is installed."""
    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        there_are = ", ".join(sorted(installed)) or "none"
        raise LookupError(f"{name!r} is no installed entry point of {group}; there are: {there_are}")
    found: Callable[..., Any] = installed[name].load()
    return found
