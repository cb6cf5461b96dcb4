"""torch.compile with a cache on disk, so that another process, or the same model tomorrow, does not compile anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backends.base import EXACT, Availability, Backend, BackendError, Prepared, Run, installed
from models.backends.calls import Call
from models.backends.torch_bf16 import copy_of

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


class TorchCompile(Backend):
    name = "torch-compile"
    tolerance = EXACT
    packages = ("torch",)
    in_auto = False

    def availability(self, device: str) -> Availability:
        if device.startswith("cuda"):
            return installed("triton") if torch.cuda.is_available() else Availability(usable=False, detail="torch sees no CUDA GPU")
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            return Availability(usable=False, detail="no C++ compiler: install g++ or set CXX")
        return Availability(usable=True, detail=f"{installed('torch').detail} with {compiler}")

    def prepare(self, denoiser: nn.Module) -> Prepared:
        return _Compiled(copy_of(denoiser))


class _Compiled(Prepared):
    """Compiled once for any batch; other sizes compile anew."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser

    def open(self, call: Call, folder: Path) -> Run:
        _keep_in(folder.parent.parent / "inductor")  # one for all models: equal kernels are shared
        compiled = torch.compile(self.denoiser.forward, dynamic=True)

        def run(call: Call) -> Any:
            return compiled(**call.arguments(call.tensors))

        try:
            with torch.no_grad():
                run(call)
        except Exception as error:
            raise BackendError(f"torch.compile can't compile it: {error}") from error
        return run


def _keep_in(folder: Path) -> None:
    """Unless whoever started the process chose another place. Torch writes its own choice, which does not last, into the variable too."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):
        os.environ[CACHE_VARIABLE] = str(folder)
