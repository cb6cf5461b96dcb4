"""What a finished run leaves: a pipeline or an adapter, and the record of how it came about."""

from __future__ import annotations

import json

import torch

from models.pipelines.golden import GoldenShot, write_golden
from models.pipelines.loading import load_text_to_image
from models.training.lora import ADAPTER, save_adapter
from models.training.provenance import write_training_record
from models.training.run import Run
from models.training.validation import best_of

PIPELINE = "pipeline"  #: the directory in a run's output


def export(run: Run, metrics: dict[str, float]) -> None:
    """Writes the averaged weights, or those with the lowest held-out loss where the settings say so."""
    step, metrics = _choose(run, metrics)
    output = run.place.output
    if run.config.method == "lora":
        kind = ADAPTER
        save_adapter(run.state.averaged_weights(), run.config, run.family.attention, run.family.component, output / ADAPTER)
    else:
        kind = PIPELINE
        run.family.save(run.state.averaged, output / PIPELINE)
        width, height = run.family.sides()
        write_golden(output / PIPELINE, load_text_to_image(output / PIPELINE, "cpu"), GoldenShot(width=width, height=height))
    record = write_training_record(output, {**facts_of(run), "steps": step, "metrics": metrics, "exported": kind})
    run.tracker.artifact(record)
    print(json.dumps({"output": str(output / kind), "steps": step, **metrics}), flush=True)


def _choose(run: Run, metrics: dict[str, float]) -> tuple[int, dict[str, float]]:
    """Puts the weights that are exported into the averaged network; says of which step they are and what was measured on them."""
    best = best_of(run) if run.config.export == "best" else None
    if best is None or best.step == run.state.step:
        return run.state.step, metrics
    with torch.no_grad():
        for name, weight in run.state.averaged_weights().items():
            weight.copy_(best.weights[name])
    return best.step, {**metrics, "held_out_loss": best.held_out_loss}


def facts_of(run: Run) -> dict[str, object]:
    width, height = run.family.sides()
    return {
        "samples_seen": run.state.step * run.config.batch_size,
        "seed": run.config.seed,
        "defaults": {"width": width, "height": height, "steps": run.steps, "guidance": run.guidance},
        "method": run.config.method,
        "config": run.config.model_dump(mode="json"),
        "dataset": str(run.place.dataset),
        "dataset_digest": run.train.digest,
        "init": run.place.init,
        **run.lineage,
    }
