"""What can go wrong with a model version."""

from __future__ import annotations


class RegistryError(Exception):
    """The registry refuses what is asked of it."""


class RegistryUnavailableError(RegistryError):
    """The registry can't be reached or can't answer now; the same call may succeed later."""


class UnknownModelError(RegistryError):
    """The registry has no such model, version or alias."""


class ModelRejectedError(RegistryError):
    """The version's files are not what they should be; no retry helps."""
