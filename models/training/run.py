"""A training run: what stays the same while it lasts, put together from settings, a dataset version and a start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from models.training.checkpoints import CheckpointError, Checkpoints
from models.training.config import TrainingConfig
from models.training.data import HeldOut, TrainingData, load_data, load_held_out
from models.training.encoding import Encoders
from models.training.families.base import Family
from models.training.lock import RunLock
from models.training.lora import add_adapters
from models.training.objectives.base import Objective
from models.training.provenance import code_version
from models.training.state import TrainingState, arithmetic
from models.training.tracking import Tracker

CHECKPOINTS = "checkpoints"  #: the directory in a run's output
ENCODED = "encoded"  #: what encoders made, where no directory for all runs is given
BEST = "best"  #: the weights with the lowest held-out loss


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run reads and writes."""

    dataset: str  #: manifest.json of a dataset version: a path, or s3://bucket/...
    output: Path
    init: str  #: what it starts from; see :func:`models.training.families.load.load_family`
    cache: Path | None = None  #: of what frozen encoders made, and of a bucket's files; None: in ``output``
    mlflow_run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    config: TrainingConfig
    place: Place
    family: Family
    objective: Objective
    train: TrainingData
    validation: HeldOut
    state: TrainingState
    checkpoints: Checkpoints
    tracker: Tracker
    accelerator: Accelerator
    steps: int  #: denoising steps that the model is made for
    guidance: float
    lineage: dict[str, Any] = field(default_factory=dict)  #: more facts for the record

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return bool(self.accelerator.is_main_process)

    @property
    def precision(self) -> torch.dtype:
        return arithmetic(self.config)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in for the run to go on from it."""
        return {**self.config.identity(), "dataset_digest": self.train.digest, "init": self.place.init, **self.lineage}

    def say(self, line: str) -> None:
        if self.main:
            print(line, flush=True)


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """One process on one device, or as many as ``accelerate launch`` started; in arithmetic that a repetition does alike."""
    if config.threads:
        torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Without being told so, accelerate takes several processes on CPUs for as many trainings of one.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    if accelerator.device.type != "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    if config.batch_size < accelerator.num_processes:
        raise ValueError(f"batch_size {config.batch_size} must be at least the {accelerator.num_processes} processes that share it")
    return accelerator


def load_splits(config: TrainingConfig, place: Place, family: Family, accelerator: Accelerator) -> tuple[TrainingData, HeldOut]:
    """Training and held-out samples, encoded. Raises :class:`ValueError` where either has none, or a size that the network can't take."""
    encoders = Encoders(texts=family.texts, images=family.images, cache=place.cache or place.output / ENCODED)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    train = load_data(place.dataset, "train", config, encoders, share)
    validation = load_held_out(place.dataset, "validation", config, encoders, config.validation_samples)
    if family.images is None:
        for width, height in {*train.plan.sizes, *(tuple(bucket.images.shape[:1:-1]) for bucket in validation.buckets)}:
            if height % family.multiple or width % family.multiple:
                raise ValueError(f"dataset: its images have {width}x{height} pixels, and the network takes multiples of {family.multiple}")
    return train, validation


def assemble_run(
    config: TrainingConfig,
    place: Place,
    family: Family,
    lock: RunLock,
    accelerator: Accelerator,
    *,
    data: tuple[TrainingData, HeldOut],
    objective: Objective,
    steps: int,
    lineage: dict[str, Any] | None = None,
) -> Run:
    if config.method == "lora":
        add_adapters(family.network, config, family.attention)
    else:
        family.network.requires_grad_(True)
    state = TrainingState(family.network.to(accelerator.device), config, family.memory_format)
    if config.gradient_checkpointing:
        family.checkpoint_gradients(state.working)
    tracker = Tracker(place.output, place.mlflow_run_id if accelerator.is_main_process else None)
    run = Run(
        config=config, place=place, family=family, objective=objective, train=data[0], validation=data[1], state=state, tracker=tracker,
        checkpoints=Checkpoints(directory=place.output / CHECKPOINTS, keep=config.keep_checkpoints, may_write=lock.check),
        accelerator=accelerator, steps=steps, guidance=config.guidance, lineage=lineage or {},
    )  # fmt: skip
    facts = {"dataset_digest": run.train.digest, "code_version": code_version(), "init": place.init}
    tracker.params({**config.model_dump(mode="json"), **facts})
    return run


def resume(run: Run) -> bool:
    """Takes over the newest checkpoint, if there is one. Raises :class:`ValueError` for that of another run."""
    found = run.checkpoints.newest(run.say)
    if found is None:
        return False
    theirs = found.facts["identity"]
    for name, ours in run.identity.items():
        if theirs.get(name) != ours:
            raise ValueError(f"{name}: {found.path} is of a run with {theirs.get(name)!r}, not {ours!r}; choose another output directory")
    run.state.take(found.tensors, found.facts["step"], found.facts["micro_batch"])
    if run.main:
        run.tracker.rewind(run.state.step)
    return True


def save(run: Run) -> bool:
    """Writes a checkpoint. False where it can't be written, which a line says; the checkpoints before stay."""
    if not run.main:
        return True
    facts = {"identity": run.identity, "micro_batch": run.state.micro_batch}
    try:
        run.checkpoints.save(run.state.step, run.state.tensors(), facts)
    except CheckpointError as error:
        run.say(f"{error}; the checkpoints before stay, and training goes on")
        return False
    return True
