"""How good the averaged weights are: held-out loss and a grid of the sample prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from models.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from models.training.grid import image_grid
from models.training.held_out import held_out_loss
from models.training.run import BEST, Run


@dataclass(frozen=True, kw_only=True)
class Best:
    step: int
    held_out_loss: float
    weights: dict[str, torch.Tensor]


def validate(run: Run) -> dict[str, float]:
    """Also keeps the weights where no earlier ones had a lower loss."""
    if not run.main:
        return {}
    step, loss = run.state.step, _held_out(run)
    run.tracker.metrics({"held_out_loss": loss}, step)
    run.say(f"step {step} held-out loss {loss:.4f}")
    best = best_of(run)
    if best is None or loss < best.held_out_loss:
        _keep_best(run, loss)
    if run.config.sample_prompts:
        _sample_grid(run)
    return {"held_out_loss": loss}


def best_of(run: Run) -> Best | None:
    """None where nothing was validated yet, or what was kept is damaged."""
    try:
        found = read_checkpoint(run.place.output / BEST)
        return Best(step=found.facts["step"], held_out_loss=found.facts["held_out_loss"], weights=found.tensors)
    except (CheckpointError, KeyError):
        return None


def _held_out(run: Run) -> float:
    """Over all sizes of images, each by its share of the samples."""
    predict, total = run.family.predictor(run.state.averaged.eval()), 0.0
    for bucket in run.validation.buckets:
        text = bucket.text.to(run.accelerator.device)
        total += len(bucket) * held_out_loss(predict, bucket.images, text, run.objective)
    return total / len(run.validation)


def _keep_best(run: Run, loss: float) -> None:
    weights = {name: value.detach().cpu().contiguous() for name, value in run.state.averaged_weights().items()}
    facts = {"step": run.state.step, "held_out_loss": loss}
    try:
        write_checkpoint(run.place.output / BEST, weights, facts, run.checkpoints.may_write)
    except CheckpointError as error:
        run.say(f"{error}; the best weights before stay")


def _sample_grid(run: Run) -> None:
    images = run.family.render(run.state.averaged, run.config.sample_prompts, run.steps, run.guidance)
    path = run.place.output / "samples" / f"step-{run.state.step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image_grid(images).save(path)
    run.tracker.artifact(path, "samples")
