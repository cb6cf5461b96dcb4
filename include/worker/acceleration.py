"""A worker's backends and its parity gate, put together: what is known of this machine is read, what is not is measured beside the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from include.worker.backends import ModelBackends, machine_key
from include.worker.parity import BatchParity
from include.worker.pipeline import Loader
from include.worker.ports import ParityGate
from include.worker.tuner import Tuner
from include.worker.verdicts import AUTO


class BackendOptionError(ValueError):
    """The backend asked for is unknown, or can't be used here."""


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    loader: Loader
    parity: ParityGate
    tuner: Tuner


def accelerate(
    home: Path, *, wanted: str, device: str, threads: int, loader: Loader, on_tuned: Callable[[str], None] = lambda digest: None
) -> Acceleration:
    """Everything that is found is kept below ``home/backends``, apart for machines and installations that differ.

    :param wanted: ``auto`` or a backend's name
    :param on_tuned: told the digest of a model that would run on another backend if it were loaded anew
    :raises BackendOptionError: ``wanted`` can't be used
    """
    from models.backends.base import EXACT  # imports torch

    check_backend(wanted, device)
    folder = home / "backends" / machine_key(device, threads)
    tuner = Tuner(wanted=wanted, device=device, threads=threads, on_tuned=on_tuned)
    backends = ModelBackends(folder, wanted, loader, tuner.want)
    return Acceleration(loader=backends.load, parity=BatchParity(folder, EXACT, backends.name_for), tuner=tuner)


def check_backend(wanted: str, device: str) -> None:
    """Raises :class:`BackendOptionError` where it can't be used on the device, saying why."""
    from models.backends.known import backend_named

    if wanted == AUTO:
        return
    try:
        found = backend_named(wanted).availability(device)
    except ValueError as error:
        raise BackendOptionError(str(error)) from error
    if not found.usable:
        raise BackendOptionError(f"backend {wanted}: {found.detail}")
