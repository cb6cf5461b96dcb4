"""A real pipeline with random weights, and a worker's parts around it without a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from include.contracts.dispatch import Lease, ModelRef
from include.contracts.workers import Completed, Failed, WorkerMessage
from include.storage.directory import DirectoryStore
from include.worker.cache import ModelCache
from include.worker.executor import Execution, LeaseLostError
from include.worker.leases import LeaseTable
from include.worker.pipeline import Pipeline
from include.worker.reporter import Identity, Reporter
from include.worker.results import ResultStore
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

    def execute(self, lease: Lease, max_items: int = 8) -> str:
        """Why the lease was lost, empty if it was not."""
        self.leases.offer(lease)
        assert self.leases.take() == lease
        execution = Execution(
            lease,
            leases=self.leases,
            cache=self.cache,
            results=self.results,
            reporter=self.reporter,
            max_items=max_items,
            abandon=self.abandon,
        )
        try:
            execution.run()
        except LeaseLostError as error:
            return str(error)
        finally:
            self.leases.finish(lease.lease_id)
        return ""

    @property
    def completed(self) -> dict[str, Completed]:
        return {message.request_id: message for message in self.sent.messages if isinstance(message, Completed)}

    @property
    def failed(self) -> dict[str | None, Failed]:
        return {message.request_id: message for message in self.sent.messages if isinstance(message, Failed)}


@pytest.fixture
def bench(tmp_path: Path, pipeline: Pipeline) -> Bench:
    return Bench(tmp_path, pipeline)
