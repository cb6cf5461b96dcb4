"""A worker process between a real broker, a real MLflow server and a directory store, and a hand that plays the router."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from include.config import PROJECT_ROOT, Settings
from include.contracts import topics as names
from include.contracts.dispatch import Lease, ModelRef, RenderTask, Revoke
from include.contracts.workers import Completed, Credit, Failed, Hello, WorkerMessage, worker_messages
from include.platform.environment import ONE_THREAD, shared_environment
from include.storage import ObjectStore, open_store
from include.worker.service import Worker, WorkerOptions
from tests.support.device import DEVICE
from tests.support.kafka_client import TopicReader, send
from tests.support.leases import lease_of
from tests.support.registry import register
from tests.support.tiny_pipeline import write_tiny_pipeline
from tests.support.waiting import wait_for

M = TypeVar("M", bound=WorkerMessage)


class WorkerProcess:
    """``python -m include.worker`` in a process of its own."""

    def __init__(self, settings: Settings, worker_id: str, *arguments: str) -> None:
        self.settings = settings
        self.worker_id = worker_id
        self.log = settings.home / f"{worker_id}.log"
        command = [sys.executable, "-m", "include.worker", "--pool", "standard", "--worker-id", worker_id, "--device", DEVICE, *arguments]
        environment = {**shared_environment(settings, worker_id), **ONE_THREAD}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stderr=log, start_new_session=True)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(30)

    def said(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")


class WorkerThread:
    """The same worker in a thread of the test's own process, which has imported torch already."""

    def __init__(self, settings: Settings, worker_id: str, **options: Any) -> None:
        self.stop = threading.Event()
        self.worker = Worker(settings, WorkerOptions(pool="standard", worker_id=worker_id, **{"device": DEVICE, "drain_s": 1.0, **options}))
        self.thread = threading.Thread(target=self.worker.run, args=(self.stop,), name=worker_id)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the worker did not end"


class Router:
    """Sends leases and reads what the workers report."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = TopicReader(settings, names.WORKERS)

    def messages(self, kind: type[M]) -> list[M]:
        parsed = (worker_messages.validate_json(value) for value in self.reader.poll(0.05) if value)
        return [message for message in parsed if isinstance(message, kind)]

    def wait(self, kind: type[M], count: int = 1, timeout: float = 60, **values: Any) -> list[M]:
        """At least ``count`` messages of the kind whose fields have these values."""

        def found() -> list[M] | None:
            matching = [
                message for message in self.messages(kind) if all(getattr(message, name) == value for name, value in values.items())
            ]
            return matching if len(matching) >= count else None

        what = f"{count} {kind.__name__} {values}"
        return wait_for(found, timeout, what, interval=0) or []

    def hello(self, worker_id: str = "worker-0", starts: int = 1) -> Hello:
        return self.wait(Hello, starts, worker_id=worker_id)[-1]

    def lease(self, hello: Hello, *tasks: RenderTask, **values: Any) -> Lease:
        lease = lease_of(*tasks, worker_id=hello.worker_id, incarnation=hello.incarnation, **values)
        self.dispatch(lease)
        return lease

    def dispatch(self, message: Lease | Revoke | bytes) -> None:
        send(self.settings, names.dispatch("standard"), message if isinstance(message, bytes) else message.to_json())

    def outcomes(self, lease: Lease, timeout: float = 60) -> list[Completed | Failed]:
        """Once every request of the lease is answered."""

        def answered() -> list[Completed | Failed] | None:
            done = [*self.messages(Completed), *self.messages(Failed)]
            mine = [message for message in done if message.lease_id == lease.lease_id]
            return mine if {message.request_id for message in mine} >= {task.request_id for task in lease.tasks} else None

        return wait_for(answered, timeout, f"outcomes of {lease.lease_id}", interval=0) or []

    def wait_free(self, worker_id: str, timeout: float = 30) -> Credit:
        """The newest heartbeat of the worker, once it holds nothing."""

        def free() -> Credit | None:
            credits = [message for message in self.messages(Credit) if message.worker_id == worker_id]
            return credits[-1] if credits and not credits[-1].held else None

        return wait_for(free, timeout, f"{worker_id} free", interval=0)


@pytest.fixture
def installed(topics: Settings, mlflow_server: str, tmp_path: Path) -> Settings:
    return topics.model_copy(update={"home": tmp_path, "mlflow_uri": mlflow_server})


@pytest.fixture
def store(installed: Settings) -> ObjectStore:
    return open_store(installed)


@pytest.fixture
def router(installed: Settings) -> Iterator[Router]:
    found = Router(installed)
    yield found
    found.reader.close()


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture
def model(tiny_dir: Path, mlflow_server: str) -> ModelRef:
    return register(tiny_dir, f"tiny-{uuid.uuid4().hex[:8]}", mlflow_server)


class Workers:
    """Starts workers; all are ended after the test."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.settings = settings
        self.stack = stack

    def start(self, worker_id: str = "worker-0", **options: Any) -> WorkerThread:
        torch.set_num_threads(1)
        worker = WorkerThread(self.settings, worker_id, **options)
        self.stack.callback(worker.end)
        return worker

    def start_process(self, worker_id: str = "worker-0", *arguments: str) -> WorkerProcess:
        process = WorkerProcess(self.settings, worker_id, *arguments)
        self.stack.callback(process.end)
        return process


@pytest.fixture
def workers(installed: Settings) -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(installed, stack)
