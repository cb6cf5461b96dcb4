"""Variants whose network is run by a backend of the workers, from the graph that this backend exports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.backends.base import BackendError
from models.backends.onnx_graph import LAYOUT
from models.backends.onnx_runtime import QUANTIZED
from models.backends.openvino_int8 import INT8, INT8_WEIGHTS
from models.compression.base import GRAPHS, Variant, attach
from models.compression.directories import PIPELINE, link_tree
from models.compression.plan import SweepPlan
from models.pipelines.loading import load_text_to_image

#: Files that a backend makes of the graph and runs in its place.
MADE_BY = {"onnxruntime-int8": (QUANTIZED,), "openvino-int8": (INT8, INT8_WEIGHTS)}
EXPORTED = "exported"  #: in the version's home: graphs, of which one export serves several variants


@dataclass(frozen=True, kw_only=True)
class OnBackend(Variant):
    """``pipeline`` as registered, and under ``graphs`` what the backend made of its network for the measured size."""

    def build(self, plan: SweepPlan, folder: Path) -> None:
        found, exported = plan.measurement, plan.home / EXPORTED / plan.measurement.machine
        pipeline = load_text_to_image(plan.original.directory, found.device)
        attachment = attach(pipeline, self.backend, exported)
        conditioning = pipeline.encode(["red heart"], [""], [plan.original.defaults.guidance])
        pipeline.step(pipeline.prepare(conditioning, [0], found.width, found.height, 2))
        if self.backend in attachment.failed:
            raise BackendError(attachment.failed[self.backend])
        if attachment.last_call is None:
            raise BackendError(f"{type(attachment.denoiser).__name__} is called with what no graph can take")
        link_tree(plan.original.directory, folder / PIPELINE)
        key = attachment.last_call.key
        link_tree(exported / key, folder / GRAPHS / key, self._wants)

    def network_files(self, folder: Path) -> list[Path]:
        files = [path for path in sorted((folder / GRAPHS).rglob("*")) if path.is_file() and path.name != LAYOUT]
        own = [path for path in files if path.name in MADE_BY.get(self.backend, ())]
        return own or files or super().network_files(folder)

    def _wants(self, path: Path) -> bool:
        """Without what other backends made of the same graph."""
        return all(path.name not in names for backend, names in MADE_BY.items() if backend != self.backend)
