"""What runs in processes of their own: one builds a variant, another, which has seen nothing of the first, loads and measures it.

Each is started with a plan as JSON and a variant's name, leaves its result as a file and ends. What it can explain it writes to the file
of reasons before it ends with code 1; a process that was killed leaves none.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from models.backends.attached import attachment_of
from models.backends.base import BackendError
from models.compression.base import Variant, VariantError
from models.compression.directories import is_no_room, size_mb, verify, writing_directory
from models.compression.known import VARIANTS
from models.compression.plan import EXPLAINED, FIGURES, IMAGES, NO_ROOM, UNFIT, Figures, SweepPlan
from models.compression.rendering import Renders


def build(plan_json: str, name: str, reasons: str) -> None:
    """Leaves the variant's directory."""
    plan = SweepPlan.model_validate_json(plan_json)
    with _explaining(Path(reasons)):
        available = VARIANTS[name].availability(plan)
        if not available.usable:
            raise VariantError(available.detail)
        with writing_directory(plan.built_directory(name)) as folder:
            torch.set_num_threads(plan.measurement.threads)
            VARIANTS[name].build(plan, folder)


def measure(plan_json: str, name: str, reasons: str) -> None:
    """Leaves a directory with figures and images."""
    plan = SweepPlan.model_validate_json(plan_json)
    with _explaining(Path(reasons)), writing_directory(plan.measured_directory(name)) as folder:
        torch.set_num_threads(plan.measurement.threads)
        figures, images = measured(plan, VARIANTS[name])
        np.save(folder / IMAGES, images, allow_pickle=False)
        (folder / FIGURES).write_text(figures.model_dump_json(), encoding="utf-8")


@contextmanager
def _explaining(reasons: Path) -> Iterator[None]:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if is_no_room(error):
            sys.exit(NO_ROOM)
        said = str(error).strip().partition("\n")[0][:500]
        plain = isinstance(error, (BackendError, ValueError, VariantError))
        reasons.write_text(said if plain else f"{type(error).__name__}: {said}", encoding="utf-8")
        sys.exit(UNFIT if isinstance(error, VariantError) else EXPLAINED)


def measured(plan: SweepPlan, variant: Variant) -> tuple[Figures, np.ndarray]:
    """Loads the built variant, renders the images by which its quality is judged, and times renders of one image.

    :raises DamagedVariantError: its files are not those that were built
    :raises BackendError: its backend gave way to another one meanwhile
    """
    found, folder = plan.measurement, plan.built_directory(variant.name)
    verify(folder)
    began = time.perf_counter()
    pipeline = variant.load(folder, found.device)
    render = Renders(plan, variant.name, pipeline)
    render([0])
    load_s = time.perf_counter() - began
    starts = range(0, found.images, found.batch)
    images = np.concatenate([render(range(start, min(start + found.batch, found.images))) for start in starts])
    others = _Others()
    taken = [_seconds(render, index % found.images) for index in range(found.repeats)]
    busy_pct = others.busy_pct()
    _check_backend(pipeline, variant)
    figures = Figures(
        network_mb=size_mb(variant.network_files(folder)),
        directory_mb=size_mb([path for path in folder.rglob("*") if path.is_file()]),
        load_s=load_s,
        memory_mb=peak_memory_mb(found.device),
        p50_s=float(np.percentile(taken, 50)),
        p95_s=float(np.percentile(taken, 95)),
        busy_pct=busy_pct,
        steps=plan.steps_of(variant.name),
        guidance=plan.source_of(variant.name).defaults.guidance,
        backend=variant.backend,
    )
    return figures, images


class _Others:
    """What other processes do meanwhile: on a busy machine times say little, and whoever reads them should know."""

    def __init__(self) -> None:
        self.total, self.busy = self._now()

    def busy_pct(self) -> float:
        total, busy = self._now()
        return min(100.0, max(0.0, 100 * (busy - self.busy) / max(total - self.total, 1e-9)))

    @staticmethod
    def _now() -> tuple[float, float]:
        """CPU seconds of the machine since its start, and those that neither idled nor were this process's."""
        times = psutil.cpu_times()._asdict()
        total = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
        return total, total - times["idle"] - times.get("iowait", 0.0) - time.process_time()


def _seconds(render: Renders, item: int) -> float:
    began = time.perf_counter()
    render([item])
    return time.perf_counter() - began


def _check_backend(pipeline: Any, variant: Variant) -> None:
    """A backend that fails gives way to eager without a word to the caller, whose figures would not be the backend's."""
    attachment = attachment_of(pipeline)
    if attachment is not None and attachment.ran != variant.backend:
        why = attachment.failed.get(variant.backend, f"{attachment.ran} ran instead")
        raise BackendError(f"{variant.backend}: {why}")


def peak_memory_mb(device: str) -> float:
    """Of this process, libraries included; on a GPU what tensors took there. 10^6 bytes."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
