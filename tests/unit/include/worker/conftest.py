"""A real pipeline with random weights, and a worker's parts around it without a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from include.contracts.dispatch import Lease, ModelRef
from include.contracts.workers import Completed, Failed, WorkerMessage
from include.storage.directory import DirectoryStore
from include.worker.adapters import AdapterShelf
from include.worker.assignment import AbandonedError, Assignment
from include.worker.cache import ModelCache
from include.worker.executor import Execution
from include.worker.leases import LeaseTable
from include.worker.loop import RenderLoop
from include.worker.parked import ParkedRenders
from include.worker.pipeline import Pipeline
from include.worker.reporter import Identity, Reporter
from include.worker.results import ResultStore
from include.worker.slicing import Bounds
from include.worker.tools import Tools
from tests.support.tiny_pipeline import tiny_pipeline


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return tiny_pipeline()


class Sent:
    """Keeps what would be sent, and acknowledges it at once unless the broker is ``away``."""

    def __init__(self) -> None:
        self.messages: list[WorkerMessage] = []
        self.away = False

    def send(self, message: WorkerMessage, on_delivered: Callable[[], None] | None = None) -> None:
        self.messages.append(message)
        if on_delivered and not self.away:
            on_delivered()


class Faulty:
    """The real pipeline, but that ``before_step`` may raise; it is given the state."""

    def __init__(self, pipeline: Pipeline, before_step: Callable[[Any], None]) -> None:
        self.pipeline = pipeline
        self.before_step = before_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def step(self, state: Any) -> Any:
        self.before_step(state)
        return self.pipeline.step(state)


class Bench:
    """Executes leases in the calling thread."""

    def __init__(self, root: Path, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.now = 1000.0
        self.leases = LeaseTable(clock=lambda: self.now)
        self.sent = Sent()
        self.store = DirectoryStore(root / "objects")
        self.abandon = threading.Event()
        self.results = ResultStore(self.store, 1.0, self.abandon)
        self.root = root
        self.cache = ModelCache(self, lambda directory, device: self.pipeline)
        self.reporter = Reporter(
            Identity(worker_id="worker-0", incarnation="i-1", cell="cell-0", pool="standard"),
            self.sent,
            self.leases,
            self.cache,
            clock=lambda: self.now,
        )

    def fetch(self, ref: ModelRef) -> Path:
        return self.root

    def release(self, ref: ModelRef) -> None:
        return

    def tools(self, **changes: Any) -> Tools:
        parts = {
            "cache": self.cache,
            "results": self.results,
            "adapters": AdapterShelf(self),
            "parked": ParkedRenders(self.store),
        }
        return Tools(**{**parts, **changes})

    def assignment(self, lease: Lease) -> Assignment:
        """The lease, offered and begun."""
        self.leases.offer(lease)
        assert self.leases.start(lease.lease_id)
        return Assignment(lease, self.leases, self.reporter, self.abandon)

    def execute(self, lease: Lease, **tools: Any) -> str:
        """Why the lease was lost, empty if it was not."""
        assignment = self.assignment(lease)
        try:
            for _ in Execution(assignment, self.tools(**tools)).run():
                pass
        except AbandonedError as error:
            return str(error)
        finally:
            self.leases.finish(lease.lease_id)
        return assignment.lost

    def loop(self, bounds: Bounds | None = None, **tools: Any) -> RenderLoop:
        return RenderLoop(self.leases, self.reporter, self.tools(**tools), self.abandon, bounds or Bounds(), clock=lambda: self.now)

    @property
    def completed(self) -> dict[str, Completed]:
        return {message.request_id: message for message in self.sent.messages if isinstance(message, Completed)}

    @property
    def failed(self) -> dict[str | None, Failed]:
        return {message.request_id: message for message in self.sent.messages if isinstance(message, Failed)}


@pytest.fixture
def bench(tmp_path: Path, pipeline: Pipeline) -> Bench:
    return Bench(tmp_path, pipeline)
