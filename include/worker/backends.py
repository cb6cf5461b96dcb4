"""Which backend runs a worker's models: what was measured good on this machine, torch-eager until that is known."""

from __future__ import annotations

import hashlib
import logging
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from include.registry.files import list_files
from include.worker.pipeline import Loader, Pipeline
from include.worker.verdicts import EAGER, Chosen, Verdicts

if TYPE_CHECKING:
    from models.backends.attached import Attachment

log = logging.getLogger(__name__)

MAX_SIZES = 8  #: of a model that are measured: each takes the time, and the disk, of an exported graph
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is to be measured."""

    directory: Path  #: of the model
    folder: Path  #: where what is found is kept
    digest: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A loaded one."""

    directory: Path
    digest: str
    chosen: Chosen


class ModelBackends:
    """Loads pipelines onto their backends. A model's own size is measured after its first load and others when batches of them come,
    unless eager is wanted.

    :param folder: what is kept of models on machines like this one
    :param wanted: ``auto`` or a backend's name
    :param tune: called with what is not known yet, maybe again and again; must not wait for it
    """

    def __init__(self, folder: Path, wanted: str, loader: Loader, tune: Callable[[Tuning], None] = lambda tuning: None) -> None:
        self.folder = folder
        self.wanted = wanted
        self.loader = loader
        self.tune = tune
        self._models: WeakKeyDictionary[Attachment, _Model] = WeakKeyDictionary()

    def load(self, directory: Path, device: str) -> Pipeline:
        """As :class:`include.worker.pipeline.Loader`."""
        pipeline = self.loader(directory, device)
        if self.wanted != EAGER:
            self._attach(pipeline, directory)
        return pipeline

    def name_for(self, pipeline: Pipeline, width: int, height: int) -> str:
        """What runs the pipeline at that size."""
        from models.backends.attached import attachment_of

        attachment = attachment_of(pipeline)
        model = None if attachment is None else self._models.get(attachment)
        if attachment is None or model is None:
            return pipeline.backend
        if getattr(pipeline, "adapters", None):
            return EAGER
        if len(model.chosen.sizes) < MAX_SIZES and (width, height) not in model.chosen.sizes:
            self._tune(model, width, height)
        name = model.chosen.for_size(width, height)
        return EAGER if name in attachment.failed else name

    def _attach(self, pipeline: Pipeline, directory: Path) -> None:
        from models.backends.attached import Attachment, denoiser_of
        from models.backends.base import BackendError
        from models.backends.known import BACKENDS

        try:
            denoiser = denoiser_of(pipeline)
        except BackendError as error:
            log.info("%s: it runs on %s alone: %s", directory.name[:12], pipeline.backend, error)
            return
        digest = digest_of(directory)
        verdicts = Verdicts(self.folder / digest)
        chosen = Chosen(verdicts.read(), self.wanted)
        own = getattr(pipeline, "pipeline", pipeline)  # what takes adapters is a view of the pipeline, and says what that says
        attachment = Attachment(
            denoiser, verdicts.folder, lambda key: BACKENDS.get(chosen.for_signature(key)), lambda name: setattr(own, "backend", name)
        )
        model = self._models[attachment] = _Model(directory=directory, digest=digest, chosen=chosen)
        width, height = own_size(pipeline)
        if not verdicts.has(width, height, self.wanted):
            self._tune(model, width, height)

    def _tune(self, model: _Model, width: int, height: int) -> None:
        self.tune(Tuning(directory=model.directory, folder=self.folder / model.digest, digest=model.digest, width=width, height=height))


def own_size(pipeline: object) -> tuple[int, int]:
    """Width and height in pixels that the model was made for."""
    from models.backends.attached import denoiser_of

    own = getattr(pipeline, "pipeline", pipeline)
    diffusers_pipeline = getattr(own, "pipe", own)
    samples = getattr(diffusers_pipeline, "default_sample_size", None) or denoiser_of(pipeline).config.sample_size
    side = int(samples) * int(getattr(diffusers_pipeline, "vae_scale_factor", 1))
    return side, side


def digest_of(directory: Path) -> str:
    """The model's digest: the directory's name where the fetcher made it, for it has verified the files by it."""
    return directory.name if _DIGEST.fullmatch(directory.name) else list_files(directory).digest


def machine_key(device: str, threads: int) -> str:
    """The same for machines and installations on which a model takes the same time and gives the same images."""
    import torch

    from models.backends.known import BACKENDS

    packages = sorted({package for backend in BACKENDS.values() for package in backend.packages})
    facts = [device, str(threads), platform.machine(), *(f"{package} {_version(package)}" for package in packages)]
    if device.startswith("cuda"):
        facts.append(torch.cuda.get_device_name(device))
    else:
        facts += [str(pair) for pair in sorted(torch.cpu.get_capabilities().items())]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
