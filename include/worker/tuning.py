"""Measures the backends on one model at one size: which give torch-eager's images, and how fast each is.

    python -m include.worker.tuning --directory DIR --folder DIR --device cpu --threads 1 --width 64 --height 64 --wanted auto

The worker runs it as a process of its own, for exporters change what they export while they read it, and may die of it. It ends when its
standard input does, so that it does not outlive the worker.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from include.worker.parity import Deviation, batch_deviation, begin, deviation, render
from include.worker.pipeline import Pipeline, RenderState, load_torch
from include.worker.verdicts import AUTO, EAGER, Measured, Verdict, Verdicts
from models.backends.attached import Attachment, denoiser_of
from models.backends.base import EXACT, Backend, Tolerance
from models.backends.known import BACKENDS

log = logging.getLogger(__name__)

STEPS = 4  #: of the images that are compared
BATCH = 4
REPEATS = 5
CLOSE = 1.5  #: times the fastest's pace; who is not slower is timed again
ROUNDS = 3  #: in which they are, in turns: another machine's load must not decide between them


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What eager does: where it is before each step, and at the end."""

    states: list[RenderState]
    images: list[Image]  #: after each step, those of all items
    signature: str


def measure(pipeline: Pipeline, folder: Path, width: int, height: int, names: list[str]) -> Verdict:
    """Eager and ``names``, in this order. A backend that fails is refused with the reason; it costs the others nothing."""
    reference = _reference(pipeline, folder, width, height)
    found = {name: _measured(pipeline, folder, width, height, BACKENDS[name], reference) for name in [EAGER, *names]}
    close = contenders(found)
    for name in close * (ROUNDS - 1 if len(close) > 1 else 0):
        with attached(pipeline, folder, BACKENDS[name]):
            found[name] = found[name].timed(**_times(pipeline, width, height))
    log.info("fastest first: %s", ", ".join(f"{name} {1000 * found[name].pace:.1f} ms" for name in contenders(found)))
    return Verdict(width=width, height=height, batch=BATCH, signature=reference.signature, backends=found)


def _reference(pipeline: Pipeline, folder: Path, width: int, height: int) -> Reference:
    with attached(pipeline, folder, BACKENDS[EAGER]) as attachment:
        states = [begin(pipeline, range(BATCH), width, height, steps=STEPS)]
        for _ in range(STEPS):
            states.append(pipeline.step(states[-1]))
        call = attachment.last_call
    images = [image for state in states[1:] for image in pipeline.decode(state)]
    return Reference(states=states[:-1], images=images, signature=call.key if call else "")


@contextmanager
def attached(pipeline: Pipeline, folder: Path, backend: Backend) -> Iterator[Attachment]:
    """All calls of the pipeline's denoiser run on ``backend`` inside."""
    attachment = Attachment(denoiser_of(pipeline), folder, lambda key: backend)
    try:
        yield attachment
    finally:
        attachment.detach()


def _measured(pipeline: Pipeline, folder: Path, width: int, height: int, backend: Backend, reference: Reference) -> Measured:
    began = time.perf_counter()
    with attached(pipeline, folder, backend) as attachment:
        measured = _compared(pipeline, width, height, backend, reference)
        if backend.name in attachment.failed:
            measured = Measured(refused=attachment.failed[backend.name])
        elif measured.refused is None:
            measured = measured.timed(**_times(pipeline, width, height))
    log.info("%s: %s, after %.1f s", backend.name, _said(measured), time.perf_counter() - began)
    return measured


def contenders(found: Mapping[str, Measured]) -> list[str]:
    """Backends whose images are right and that may be the fastest of these, the fastest first."""
    right = sorted((measured.pace, name) for name, measured in found.items() if measured.refused is None)
    return [name for pace, name in right if pace <= CLOSE * right[0][0]]


def _compared(pipeline: Pipeline, width: int, height: int, backend: Backend, reference: Reference) -> Measured:
    """Each step from where eager was, and whole renders. Over several steps small differences grow in an image that hangs in the balance,
    as they do between two machines; so of these the average over the images counts (docs/decisions/0013)."""
    images = [image for state in reference.states for image in pipeline.decode(pipeline.step(state))]
    from_eager = deviation(images, reference.images)
    finished = deviation(render(pipeline, range(BATCH), width, height, steps=STEPS), reference.images[-BATCH:])
    in_batch = batch_deviation(pipeline, BATCH, width, height)
    refused = refusal(backend.tolerance, from_eager, finished, in_batch)
    return Measured(refused=refused, from_eager=from_eager, finished=finished, in_batch=in_batch)


def refusal(tolerance: Tolerance, from_eager: Deviation, finished: Deviation, in_batch: Deviation) -> str | None:
    """Why a backend must not be used, None where its images are right."""
    if not from_eager.within(tolerance):
        return f"after a step its images differ from those of {EAGER}: {from_eager}"
    if finished.average > tolerance.mean:
        return f"its finished images differ from those of {EAGER}: {finished}"
    if not in_batch.within(EXACT):
        return f"its batched images differ from its single ones: {in_batch}"
    return None


def _times(pipeline: Pipeline, width: int, height: int) -> dict[str, float]:
    return {"step_s": _step_s(pipeline, 1, width, height), "batch_step_s": _step_s(pipeline, BATCH, width, height)}


def _step_s(pipeline: Pipeline, size: int, width: int, height: int) -> float:
    """Seconds of a step of ``size`` images with guidance: the least of several, for what else the machine does only ever adds."""
    conditioning = pipeline.encode(["red heart"] * size, [""] * size, [3.0] * size)
    state = pipeline.step(pipeline.prepare(conditioning, list(range(size)), width, height, REPEATS + 1))
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        state = pipeline.step(state)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _said(measured: Measured) -> str:
    if measured.refused or measured.step_s is None or measured.batch_step_s is None:
        return f"refused, {measured.refused}"
    return f"{1000 * measured.step_s:.1f} ms a step, {1000 * measured.batch_step_s:.1f} ms for {BATCH} images, {measured.from_eager}"


def candidates(wanted: str, device: str) -> list[str]:
    """Names of the backends worth measuring, besides eager."""
    tried = [backend for backend in BACKENDS.values() if backend.name == wanted or (wanted == AUTO and backend.in_auto)]
    return [backend.name for backend in tried if backend.name != EAGER and backend.availability(device).usable]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="of the model, verified")
    parser.add_argument("--folder", type=Path, required=True, help="where what is found is kept")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--wanted", default=AUTO, help="auto or a backend's name")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(arguments.threads)
    pipeline = load_torch(arguments.directory, arguments.device)
    names = candidates(arguments.wanted, arguments.device)
    Verdicts(arguments.folder).write(measure(pipeline, arguments.folder, arguments.width, arguments.height, names))


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # a buffered read would hold a lock that the interpreter's own end needs
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
