from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from include.worker.pipeline import load_torch
from models.backends.attached import denoiser_of
from models.pipelines.interruption import InterruptedStepError, interruptible, outer_blocks
from tests.support.device import DEVICE
from tests.support.tiny_diffusers import FAMILIES, write_tiny_diffusers
from tests.support.tiny_pipeline import write_tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", params=["atelier", *sorted(FAMILIES)])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model") / "files"
    write = write_tiny_pipeline if request.param == "atelier" else lambda directory: write_tiny_diffusers(request.param, directory)
    return load_torch(write(folder), DEVICE)


def begun(pipeline: Any) -> Any:
    """After its first step."""
    side = 8 * pipeline.pipeline.pipe.vae_scale_factor if hasattr(pipeline.pipeline, "pipe") else 16
    conditioning = pipeline.encode(["red heart"], [""], [3.0])
    return pipeline.step(pipeline.prepare(conditioning, [1], side, side, 3))


def until(blocks: int) -> Callable[[], bool]:
    """Wanted for so many blocks."""
    asked = iter([True] * blocks)
    return lambda: next(asked, False)


def test_a_step_is_left_at_the_next_block_and_nothing_came_of_it(pipeline: Any) -> None:
    state = begun(pipeline)
    whole = pipeline.step(state)
    ran: list[nn.Module] = []
    handles = [block.register_forward_hook(lambda block, *_: ran.append(block)) for block in outer_blocks(denoiser_of(pipeline))]
    last = len(handles) - 1
    with pytest.raises(InterruptedStepError), interruptible(until(last)):
        pipeline.step(state)
    for handle in handles:
        handle.remove()
    assert len(ran) == last >= 0
    again = pipeline.step(state)
    assert torch.equal(again.latents, whole.latents) and again.progress == whole.progress


def test_a_step_that_is_wanted_to_its_end_is_as_ever(pipeline: Any) -> None:
    state = begun(pipeline)
    with interruptible(lambda: True):
        wanted = pipeline.step(state)
    assert torch.equal(wanted.latents, pipeline.step(state).latents)


def test_only_the_thread_that_says_so_is_asked(tmp_path: Path) -> None:
    pipeline = load_torch(write_tiny_pipeline(tmp_path / "model"), DEVICE)
    state, done = begun(pipeline), []
    with interruptible(lambda: False):
        thread = threading.Thread(target=lambda: done.append(pipeline.step(state)))
        thread.start()
        thread.join()
    assert len(done) == 1
