"""A training as a command: from its arguments to its exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from models.training.config import TrainingConfig, load_config
from models.training.interruption import Interruption
from models.training.lock import RunLock, RunTakenError
from models.training.run import Place, Run, resume
from models.training.state import DivergedError
from models.training.status import ExitStatus


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=f"python -m models.training.{name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--config", required=True, type=Path, help="YAML of settings; see models/configs")
    made.add_argument("--dataset", required=True, help="manifest.json of a dataset version: a path, or s3://bucket/...")
    made.add_argument("--output", required=True, type=Path, help="directory of this run; an interrupted run goes on from it")
    made.add_argument("--init", default="", help="pipeline directory to start from, or `base` for the shipped checkpoint")
    made.add_argument("--cache", type=Path, help="directory for all runs: encoded captions and images, by content, and a bucket's files")
    made.add_argument("--max-steps", type=int, help="in place of the configuration's")
    made.add_argument("--seed", type=int, help="in place of the configuration's")
    made.add_argument("--learning-rate", type=float, help="in place of the configuration's")
    made.add_argument("--mlflow-run-id", help="run of the server at MLFLOW_TRACKING_URI to log to")
    return made


def conduct(
    options: argparse.Namespace,
    prepare: Callable[[TrainingConfig, Place, RunLock], Run],
    train: Callable[[Run, Interruption], ExitStatus],
) -> ExitStatus:
    """Trains. What went wrong is said in one line on standard error."""
    place = Place(
        dataset=options.dataset, output=options.output, init=options.init, cache=options.cache, mlflow_run_id=options.mlflow_run_id
    )
    with Interruption() as interruption:
        try:
            with _lock(place.output) as lock:
                run = _ready(options, place, lock, prepare)
                return train(run, interruption) if isinstance(run, Run) else run
        except RunTakenError as error:
            return _end(str(error), ExitStatus.TAKEN)
        except DivergedError as error:
            return _end(f"{error}; the checkpoints before stay: go on from them with a lower learning_rate", ExitStatus.DIVERGED)
        except OSError as error:
            return _end(f"output: {place.output}: {error}; the same command goes on from the last checkpoint", ExitStatus.FAILED)


def _ready(
    options: argparse.Namespace, place: Place, lock: RunLock, prepare: Callable[[TrainingConfig, Place, RunLock], Run]
) -> Run | ExitStatus:
    """The run, resumed where there is a checkpoint; a status where the input can't be trained on."""
    try:
        config = load_config(options.config, max_steps=options.max_steps, seed=options.seed, learning_rate=options.learning_rate)
        run = prepare(config, place, lock)
        _announce(run, resumed=resume(run))
        return run
    except ValidationError as error:
        return _end("; ".join(_explained(one["loc"], one["msg"]) for one in error.errors()), ExitStatus.INVALID)
    except (ValueError, FileNotFoundError) as error:
        return _end(str(error), ExitStatus.INVALID)


def _explained(where: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, where))}: {text}" if where else text


def _end(message: str, status: ExitStatus) -> ExitStatus:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return status


def _lock(output: Path) -> AbstractContextManager[RunLock]:
    """The first of several processes holds it for all of them."""
    lock = RunLock(output)
    return lock if os.environ.get("RANK", "0") == "0" else contextlib.nullcontext(lock)


def _announce(run: Run, *, resumed: bool) -> None:
    weights = sum(weight.numel() for weight in run.state.weights.values())
    start = f"resumed at step {run.state.step}" if resumed else f"starting from {run.place.init or 'random weights'}"
    processes = f" on {run.accelerator.num_processes} processes" if run.accelerator.num_processes > 1 else ""
    run.say(
        f"{weights / 1e6:.1f} M weights are trained on {run.accelerator.device.type}{processes}, {len(run.train)} training and "
        f"{len(run.validation)} held-out samples, {start}"
    )
