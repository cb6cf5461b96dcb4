"""A denoiser as an ONNX file: exported once for each model and signature, with the batch left open, and kept on disk.

``torch.onnx`` exports it from a ``torch.export`` program. ONNX Runtime and OpenVINO run the same file.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backends.base import BackendError, Run
from models.backends.calls import Call
from models.backends.torch_bf16 import copy_of

GRAPH, LAYOUT = "model.onnx", "layout.json"
EXAMPLE_BATCH = 5  #: a size that no other dimension is likely to have, so that the exporter takes none for the batch
MAX_BATCH = 1024


class _Flat(nn.Module):
    """The denoiser as a function of tensors alone; all other arguments are those of ``call``."""

    def __init__(self, denoiser: nn.Module, call: Call) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.call = call
        self.result = "tensor"  #: or ``tuple``, seen when it first runs

    def forward(self, *tensors: Tensor) -> Tensor:
        result = self.denoiser(**self.call.arguments(tensors))
        if isinstance(result, Tensor):
            return result
        if not (isinstance(result, tuple) and len(result) == 1 and isinstance(result[0], Tensor)):
            raise BackendError(
                f"{type(self.denoiser).__name__} gives a {type(result).__name__}; only a tensor, or a tuple of one, is exported"
            )
        self.result = "tuple"
        return result[0]


def graph_of(denoiser: nn.Module, call: Call, folder: Path) -> Path:
    """The ONNX file for calls of this signature, exported now unless it is there. Raises :class:`BackendError`."""
    place = folder / "onnx"
    if not (place / LAYOUT).is_file():
        _publish(denoiser, call, place)
    return place / GRAPH


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a call's tensors and a graph's inputs and output correspond."""

    inputs: tuple[int, ...]  #: position among the call's tensors of each of the graph's inputs; the exporter leaves out what has no use
    in_tuple: bool  #: whether the denoiser gives its result as a tuple of one


def layout_of(graph: Path) -> Layout:
    kept = json.loads((graph.parent / LAYOUT).read_text(encoding="utf-8"))
    return Layout(inputs=tuple(kept["inputs"]), in_tuple=kept["result"] == "tuple")


def run_of(layout: Layout, infer: Callable[[Sequence[Tensor]], Tensor]) -> Run:
    """Runs calls by ``infer``, which takes the tensors of a graph's inputs and gives its only output."""
    if layout.in_tuple:
        return lambda call: (infer([call.tensors[index] for index in layout.inputs]),)
    return lambda call: infer([call.tensors[index] for index in layout.inputs])


def _publish(denoiser: nn.Module, call: Call, place: Path) -> None:
    """Whole or not at all: another process may be looking for it, or writing the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".part-") as folder:
        part = Path(folder) / "onnx"
        part.mkdir()
        try:
            _export(_Flat(copy_of(denoiser), call), call, part)
        except Exception as error:  # the exporter raises many kinds for what it does not know
            raise BackendError(f"{type(denoiser).__name__} can't be exported to ONNX: {error}") from error
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # what another process has just put there is as good
            os.replace(part, place)


def _export(flat: _Flat, call: Call, part: Path) -> None:
    example = call.resized(EXAMPLE_BATCH)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    shapes = tuple({0: batch} if batched else {} for batched in call.batched)
    names = [f"input_{index}" for index in range(len(example))]
    with torch.no_grad(), _quiet():
        flat(*example)
        program = torch.onnx.export(
            flat, example, dynamo=True, dynamic_shapes=(shapes,), input_names=names, output_names=["result"], verbose=False
        )
        program.save(str(part / GRAPH))
    inputs = [names.index(value.name) for value in program.model.graph.inputs]
    (part / LAYOUT).write_text(json.dumps({"result": flat.result, "inputs": inputs, "signature": call.signature}), encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter prints and warns of: that dimensions share a name is meant to be so."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
