from __future__ import annotations

import pytest

from include.contracts.dispatch import RenderTask
from include.contracts.requests import ImageFormat
from include.simulation.policy import Assigned, WorkerSpec
from include.simulation.workers import SimulatedWorker


def lease(name: str, tasks: int = 1) -> Assigned:
    fields = {"tenant": "acme", "prompt": "x", "width": 64, "height": 64, "steps": 4, "guidance": 1.0, "seed": 1, "images": 1}
    made = tuple(RenderTask(request_id=f"{name}-{number}", image_format=ImageFormat.PNG, **fields) for number in range(tasks))
    return Assigned(name, "w-0", "studio/1", made)


@pytest.fixture
def worker() -> SimulatedWorker:
    return SimulatedWorker(WorkerSpec(id="w-0", pool="standard", slots=2, max_batch=2))


def test_it_runs_one_micro_batch_and_holds_the_next(worker: SimulatedWorker):
    worker.take(lease("a"))
    assert worker.start_next(1.0) == lease("a")
    worker.take(lease("b"))
    assert worker.start_next(2.0) is None
    assert worker.held == ("a", "b")
    assert worker.finish() == lease("a")
    assert worker.start_next(3.0) == lease("b")
    assert (worker.held, worker.started_at) == (("b",), 3.0)


def test_more_than_it_said_it_takes_is_an_error(worker: SimulatedWorker):
    worker.take(lease("a"))
    worker.take(lease("b"))
    with pytest.raises(ValueError, match="on top"):
        worker.take(lease("c"))


def test_a_larger_batch_than_it_said_it_takes_is_an_error(worker: SimulatedWorker):
    with pytest.raises(ValueError, match="takes 2 requests at once"):
        worker.take(lease("a", tasks=3))
