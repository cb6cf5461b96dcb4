"""``atelier demo``: everything once, from images to a rolled-back model, each step announced and timed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from include.demo.options import DemoOptions

DEFAULT = DemoOptions(out=Path("demo"))


def main(
    out: Annotated[Path, typer.Option(help="Where index.html, report.json and the images go.")] = DEFAULT.out,
    requests: Annotated[int, typer.Option(min=25, help="Requests in all, about twenty bad ones included.")] = DEFAULT.requests,
    limit: Annotated[int | None, typer.Option(min=10, help="Only so many files of the dataset.")] = DEFAULT.dataset_limit,
    train_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the first version.")] = DEFAULT.train_steps,
    second_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of the version that is taken back.")] = DEFAULT.second_steps,
    eval_prompts: Annotated[int, typer.Option(min=4, help="Captions that an evaluation renders.")] = DEFAULT.eval_prompts,
    variants: Annotated[str, typer.Option(help="Compressed variants to measure, with commas between; empty: none.")] = ",".join(
        DEFAULT.variants
    ),
    burst_seconds: Annotated[
        float, typer.Option(min=0, max=600, help="How long five times the capacity is sent; 0 leaves it out.")
    ] = DEFAULT.burst_seconds,
) -> None:
    """Run the whole lifecycle and write demo/index.html and demo/report.json."""
    sizes = {"dataset_limit": limit, "train_steps": train_steps, "second_steps": second_steps, "eval_prompts": eval_prompts}
    wanted = tuple(name for name in variants.split(",") if name)
    options = DemoOptions(out=out, requests=requests, burst_seconds=burst_seconds, variants=wanted, **sizes)
    raise typer.Exit(run_demo(options))


def run_demo(options: DemoOptions, console: Console | None = None) -> int:
    """The exit code: 0 only if each good request completed with images that decode and each bad one was refused with its reason."""
    from include.config import settings
    from include.demo.acts import play
    from include.demo.finish import finish
    from include.demo.outcome import Outcome
    from include.demo.steps import StepFailedError, Steps

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    console = console or Console()
    outcome = Outcome(settings=settings(), options=options, steps=Steps(console))
    try:
        play(outcome, console)
    except KeyboardInterrupt:
        outcome.faults.append("interrupted")
    except StepFailedError as error:
        outcome.faults.append(str(error))
    except Exception as error:
        # Nobody foresaw it: the report must still say so, and everything stays up for a look at it.
        outcome.faults.append(f"{type(error).__name__}: {error}")
        console.print_exception()
    return finish(outcome, console)
