"""Trains a text-to-image network on a dataset version.

    python -m models.training.train_text_to_image --config models/configs/demo.yaml --dataset MANIFEST --output DIR [--init PIPELINE]

Starts from random weights, from the pipeline directory given as ``--init``, or from ``--init base``; goes on from the checkpoint in the
output directory if there is one, with the very weights an uninterrupted run would have had. SIGTERM or SIGINT writes a checkpoint and
ends with status 3. Leaves in the output directory: ``pipeline/``, ``training.json``, ``metrics.jsonl`` and ``samples/``.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from transformers import BertModel, PreTrainedTokenizerBase

from models.networks.hourglass_transformer import HourglassTransformer2DModel
from models.pipelines.text_encoder import load_text_encoder
from models.pipelines.text_to_image import assemble, load_pipeline, save_pipeline
from models.training.config import TrainingConfig, load_config
from models.training.data import EncodedSplit, batch_at, load_encoded
from models.training.grid import image_grid
from models.training.objective import held_out_loss, velocity_loss
from models.training.provenance import code_version, write_training_record
from models.training.state import TrainingState
from models.training.tracking import Tracker

INTERRUPTED = 3  #: exit status of a run that was told to stop and can be resumed


class Interruption:
    """Becomes true once the process is told to stop, so that a step is never cut in the middle."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, _frame: Any) -> None:
        print(f"{signal.Signals(number).name}: stopping after this step", flush=True)
        self.requested = True


@dataclass
class Run:
    """What stays the same while a run lasts."""

    config: TrainingConfig
    output: Path
    train: EncodedSplit
    validation: EncodedSplit
    encoder: BertModel
    tokenizer: PreTrainedTokenizerBase
    tracker: Tracker
    init: str
    dataset: str


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config, max_steps=options.max_steps, seed=options.seed, learning_rate=options.learning_rate)
        if config.threads:
            torch.set_num_threads(config.threads)
        network = initial_network(config, options.init)
        run = prepare_run(config, options, network.config.text_length)
        state = TrainingState(network, config)
        resumed = state.restore(run.output)
    except (ValidationError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _announce(run, state, resumed)
    with Interruption() as interruption:
        return train(run, state, interruption)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.training.train_text_to_image", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", required=True, type=Path, help="YAML of settings; see models/configs")
    parser.add_argument("--dataset", required=True, type=Path, help="manifest.json of a dataset version")
    parser.add_argument("--output", required=True, type=Path, help="directory of this run; an interrupted run goes on from it")
    parser.add_argument("--init", default="", help="pipeline directory to start from, or `base` for the shipped checkpoint")
    parser.add_argument("--max-steps", type=int, help="in place of the configuration's")
    parser.add_argument("--seed", type=int, help="in place of the configuration's")
    parser.add_argument("--learning-rate", type=float, help="in place of the configuration's")
    parser.add_argument("--mlflow-run-id", help="run of the server at MLFLOW_TRACKING_URI to log to")
    return parser


def initial_network(config: TrainingConfig, init: str) -> HourglassTransformer2DModel:
    if init == "base":
        from models.training.base_model import load_base_network

        return load_base_network()
    if init:
        return load_pipeline(init).network
    torch.manual_seed(config.seed)
    return HourglassTransformer2DModel(**config.network)


def prepare_run(config: TrainingConfig, options: argparse.Namespace, text_length: int) -> Run:
    encoder, tokenizer = load_text_encoder()
    read = (config, encoder, tokenizer, text_length)
    train_split = load_encoded(options.dataset, "train", *read)
    validation = load_encoded(options.dataset, "validation", *read, limit=config.validation_samples)
    tracker = Tracker(options.output, options.mlflow_run_id)
    tracker.params(
        {**config.model_dump(mode="json"), "dataset_digest": train_split.digest, "code_version": code_version(), "init": options.init}
    )
    return Run(config, options.output, train_split, validation, encoder, tokenizer, tracker, options.init, str(options.dataset))


def _announce(run: Run, state: TrainingState, resumed: bool) -> None:
    weights = sum(weight.numel() for weight in state.network.parameters())
    start = f"resumed at step {state.step}" if resumed else f"starting from {run.init or 'random weights'}"
    print(f"{weights / 1e6:.1f} M weights, {len(run.train)} training and {len(run.validation)} held-out samples, {start}", flush=True)


def train(run: Run, state: TrainingState, interruption: Interruption) -> int:
    """The loop. Returns the exit status."""
    config, report = run.config, _Progress(run, state.step)
    while state.step < config.max_steps:
        batch = batch_at(run.train, config, state.step)
        text = batch.text.to(state.working.dtype)
        loss = velocity_loss(state.working, batch.images, text, batch.sigmas, batch.noise).mean()
        loss.backward()
        state.update()
        report.step(state.step, loss.item())
        if state.step % config.validate_every == 0 and state.step < config.max_steps:
            validate(run, state)
        if state.step % config.checkpoint_every == 0 or interruption.requested:
            state.save(run.output)
        if interruption.requested and state.step < config.max_steps:
            print(f"checkpoint at step {state.step}; run the same command to go on", flush=True)
            return INTERRUPTED
    finish(run, state)
    return 0


class _Progress:
    """Lines of loss, speed and remaining time."""

    def __init__(self, run: Run, first: int) -> None:
        self._run, self._first, self._started = run, first, time.monotonic()
        self._losses: list[float] = []

    def step(self, step: int, loss: float) -> None:
        self._losses.append(loss)
        if step % self._run.config.log_every and step != self._run.config.max_steps:
            return
        elapsed = time.monotonic() - self._started
        speed = (step - self._first) * self._run.config.batch_size / elapsed
        left = timedelta(seconds=round((self._run.config.max_steps - step) * elapsed / (step - self._first)))
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        print(f"step {step}/{self._run.config.max_steps} loss {mean:.4f} {speed:.1f} samples/s eta {left}", flush=True)
        rate = self._run.config.learning_rate_at(step - 1)
        self._run.tracker.metrics({"loss": mean, "samples_per_s": speed, "learning_rate": rate}, step)


def validate(run: Run, state: TrainingState) -> dict[str, float]:
    """Held-out loss of the averaged weights and a grid of the sample prompts."""
    data, everything = run.validation, list(range(len(run.validation)))
    loss = held_out_loss(state.averaged.eval(), data.pixels(slice(None)), data.main_text(everything))
    metrics = {"held_out_loss": loss}
    run.tracker.metrics(metrics, state.step)
    print(f"step {state.step} held-out loss {loss:.4f}", flush=True)
    if run.config.sample_prompts:
        pipeline = assemble(state.averaged, run.encoder, run.tokenizer)
        images = pipeline(run.config.sample_prompts, num_inference_steps=run.config.sample_steps, guidance_scale=run.config.guidance).images
        path = run.output / "samples" / f"step-{state.step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_grid(images).save(path)
        run.tracker.artifact(path, "samples")
    return metrics


def finish(run: Run, state: TrainingState) -> None:
    """Exports the averaged weights as a pipeline, with the record of how they came about."""
    metrics = validate(run, state)
    save_pipeline(assemble(state.averaged, run.encoder, run.tokenizer), run.output / "pipeline")
    facts = {"config": run.config.model_dump(mode="json"), "dataset": run.dataset, "dataset_digest": run.train.digest, "init": run.init}
    record = write_training_record(run.output, state, {**facts, "metrics": metrics})
    run.tracker.artifact(record)
    state.save(run.output)
    print(json.dumps({"output": str(run.output / "pipeline"), "steps": state.step, **metrics}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
