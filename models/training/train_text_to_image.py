"""Trains a text-to-image network, or an adapter for one, on a dataset version.

    python -m models.training.train_text_to_image --config models/configs/demo.yaml --dataset MANIFEST --output DIR [--init PIPELINE]
    accelerate launch --multi_gpu --num_processes 8 -m models.training.train_text_to_image ...

Starts from random weights, from the pipeline directory given as ``--init``, or from ``--init base``; goes on from the newest checkpoint in
the output directory if there is one, with the very weights an uninterrupted run would have had. The first form takes one GPU, or the CPU
where there is none; several processes share each batch between them, and the output directory.

Leaves in the output directory: ``pipeline/`` or ``adapter/``, ``training.json``, ``metrics.jsonl``, ``samples/``, ``checkpoints/`` and
``best/``, and without ``--cache`` what encoders made in ``encoded/``. SIGTERM or SIGINT writes a checkpoint and ends with status 3;
:class:`~models.training.status.ExitStatus` has the others.
"""

from __future__ import annotations

import sys

import torch

from models.pipelines.text_to_image import DEFAULT_STEPS
from models.training.command import conduct, parser
from models.training.config import TrainingConfig
from models.training.data import batch_at
from models.training.export import export
from models.training.families.load import load_family
from models.training.gradients import backward
from models.training.interruption import Interruption
from models.training.lock import RunLock
from models.training.progress import Progress
from models.training.run import Place, Run, assemble_run, load_splits, save, start_accelerator
from models.training.status import ExitStatus
from models.training.validation import validate


def main(arguments: list[str] | None = None) -> int:
    return conduct(parser("train_text_to_image", __doc__).parse_args(arguments), prepare, train)


def prepare(config: TrainingConfig, place: Place, lock: RunLock) -> Run:
    accelerator = start_accelerator(config)
    family = load_family(config, place.init)
    data = load_splits(config, place, family, accelerator)
    return assemble_run(config, place, family, lock, accelerator, data=data, objective=family.objective(config), steps=DEFAULT_STEPS)


def train(run: Run, interruption: Interruption) -> ExitStatus:
    """The loop. What it raises, it raises before anything of the step is kept."""
    config, state = run.config, run.state
    progress = Progress(config, run.tracker, state.step)
    while state.step < config.max_steps:
        batch = batch_at(run.train, config, run.objective, state.step)
        loss = backward(run, batch)
        state.update()
        if run.main:
            progress.step(state.step, loss)
        if state.step % config.validate_every == 0 and state.step < config.max_steps:
            validate(run)
        stopping = _any_process(run, interruption.requested)
        if state.step % config.checkpoint_every == 0 or stopping:
            save(run)
        if stopping and state.step < config.max_steps:
            run.say(f"stopped at step {state.step}; run the same command to go on")
            return ExitStatus.INTERRUPTED
    save(run)
    metrics = validate(run)
    if run.main:
        export(run, metrics)
    run.accelerator.wait_for_everyone()
    return ExitStatus.DONE


def _any_process(run: Run, stopping: bool) -> bool:
    """All stop at the same step, or the others would wait for the one that did."""
    if run.accelerator.num_processes == 1:
        return stopping
    return bool(run.accelerator.reduce(torch.tensor([float(stopping)], device=run.accelerator.device), reduction="sum").item())


if __name__ == "__main__":
    sys.exit(main())
