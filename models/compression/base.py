"""The interface that every kind of variant has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.backends.attached import DENOISERS, EAGER, Attachment, denoiser_of
from models.backends.base import Availability
from models.backends.known import BACKENDS
from models.compression.directories import PIPELINE, link_tree
from models.compression.plan import SweepPlan
from models.pipelines.loading import load_text_to_image

GRAPHS = "graphs"
YES = Availability(usable=True, detail="")


class VariantError(Exception):
    """The variant can't be made of this model."""


@dataclass(frozen=True, kw_only=True)
class Variant(ABC):
    """Builds a directory from a version, and loads it again. Building and loading happen in different processes.

    A directory holds ``pipeline``, which any worker can load, and what else the variant runs.
    """

    name: str  #: one of :data:`~models.compression.kinds.KINDS`
    backend: str = EAGER  #: what runs the network

    def availability(self, plan: SweepPlan) -> Availability:
        """Whether it can be had on this machine, as far as that is known without building it. Never raises."""
        return BACKENDS[self.backend].availability(plan.measurement.device)

    @abstractmethod
    def build(self, plan: SweepPlan, folder: Path) -> None:
        """Writes the variant into the empty ``folder``.

        :raises VariantError: the model has nothing that this variant could change
        :raises BackendError: its backend can't run the model
        """

    def load(self, folder: Path, device: str) -> Any:
        """The pipeline, ready to render. On the CPU in float32 where the backend does not say otherwise."""
        pipeline = load_text_to_image(folder / PIPELINE, device)
        if self.backend != EAGER:
            attach(pipeline, self.backend, folder / GRAPHS)
        return pipeline

    def network_files(self, folder: Path) -> list[Path]:
        """The files that hold the network as this variant runs it."""
        folders = [folder / PIPELINE / name for name in DENOISERS]
        return [path for one in folders for path in sorted(one.glob("*.safetensors"))]


def attach(pipeline: Any, backend: str, folder: Path) -> Attachment:
    """Every call of the pipeline's denoiser runs on the backend from now on; what it has exported lies in ``folder``."""
    return Attachment(denoiser_of(pipeline), folder, lambda key: BACKENDS[backend])


@dataclass(frozen=True, kw_only=True)
class AsRegistered(Variant):
    """The version itself, which all others are compared with."""

    def build(self, plan: SweepPlan, folder: Path) -> None:
        link_tree(plan.original.directory, folder / PIPELINE)


@dataclass(frozen=True, kw_only=True)
class Distilled(Variant):
    """The few-step student that ``distill_steps`` made of the model, as its own version has it.

    It draws other images than its teacher, so it is judged by the distance of its images from real ones alone.
    """

    def availability(self, plan: SweepPlan) -> Availability:
        return YES if plan.student is not None else Availability(usable=False, detail=plan.student_missing)

    def build(self, plan: SweepPlan, folder: Path) -> None:
        if plan.student is None:
            raise VariantError(plan.student_missing)
        link_tree(plan.student.directory, folder / PIPELINE)
