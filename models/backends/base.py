"""The interface that every backend has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from models.backends.calls import Call

#: Gives what the denoiser's ``forward`` gives for the call.
Run = Callable[[Call], Any]


class BackendError(Exception):
    """The backend can't run this denoiser, or these calls of it."""


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a backend can be used on a device of this machine."""

    usable: bool
    detail: str  #: the version that would run; where it is not usable, why not and what would help


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far images may be from the reference: absolute differences of 8-bit pixels, so in 0..255."""

    max: float  #: of the worst value of any image
    mean: float  #: of the worst image after a step; over several steps, of all images


#: fp32 throughout: sums in another order.
EXACT = Tolerance(max=2.0, mean=0.1)
#: Products in bf16, which rounds to 8 bits, or in int8.
REDUCED = Tolerance(max=24.0, mean=2.0)


class Prepared(ABC):
    """A denoiser as a backend holds it."""

    @abstractmethod
    def open(self, call: Call, folder: Path) -> Run:
        """What runs calls of this signature. The first time on a machine may take a minute.

        :param folder: this model's and this signature's alone; what it keeps there makes the next opening quick
        :raises BackendError: the backend can't do this
        """


class Backend(ABC):
    name: str  #: as it appears in results and options
    tolerance: Tolerance  #: of its images against those of torch-eager
    packages: tuple[str, ...] = ()  #: distributions whose versions change what it computes
    in_auto = True  #: whether it is measured without being asked for; not what takes long to open even when its folder is warm

    @abstractmethod
    def availability(self, device: str) -> Availability:
        """Whether it can be used on ``device``, which is ``cpu`` or ``cuda:N``. Quick, and never raises."""

    @abstractmethod
    def prepare(self, denoiser: nn.Module) -> Prepared:
        """``denoiser`` stays as it is. Raises :class:`BackendError`."""


def installed(package: str, module: str | None = None) -> Availability:
    """Whether a package is there, without importing it."""
    try:
        if find_spec(module or package) is None:
            raise PackageNotFoundError(package)
        return Availability(usable=True, detail=f"{package} {version(package)}")
    except (PackageNotFoundError, ValueError):
        return Availability(usable=False, detail=f"{package} is not installed: pip install {package}")


def on_cpu(device: str, found: Availability) -> Availability:
    """``found`` where the device is the CPU."""
    return found if device == "cpu" else Availability(usable=False, detail=f"runs on the CPU only, not on {device}")


def on_cuda(device: str, found: Availability) -> Availability:
    """``found`` where the device is a GPU that torch sees."""
    import torch

    if not device.startswith("cuda"):
        return Availability(usable=False, detail="needs a CUDA GPU: use --device cuda:N on a machine that has one")
    if not torch.cuda.is_available():
        return Availability(usable=False, detail="torch sees no CUDA GPU on this machine")
    return found
