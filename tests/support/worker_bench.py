"""A worker with the shipped model between a real broker and a directory store, and a hand that plays the router, for benchmarks."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer, TopicPartition

from include.config import Settings
from include.contracts import topics
from include.contracts.dispatch import Lease, ModelRef, RenderTask, Revoke
from include.contracts.workers import Completed, Hello, WorkerMessage, worker_messages
from include.platform.kafka import create_topics, kafka_service
from include.registry.files import LIST_NAME, list_files
from include.worker.pipeline import Pipeline, RenderState
from include.worker.service import Worker, WorkerOptions
from models.backends.attached import denoiser_of
from models.pipelines.interruption import make_interruptible
from models.pipelines.text_to_image import save_pipeline
from models.training.base_model import load_base
from tests.support.leases import lease_of, render_task
from tests.support.services import free_settings, running

M = TypeVar("M", bound=WorkerMessage)

SIZE = 64


@contextmanager
def broker(directory: Path) -> Iterator[Settings]:
    """Settings of an installation whose broker runs, and whose workers render every request, also one they rendered before."""
    settings = free_settings(directory, result_cache_s=0)
    with running(settings, kafka_service(settings)):
        create_topics(settings)
        yield settings


def install_base(settings: Settings) -> ModelRef:
    """The shipped base model, where the worker looks for what it fetched before."""
    part = settings.home / "base"
    save_pipeline(load_base(), part)
    files = list_files(part)
    (part / LIST_NAME).write_bytes(files.to_json())
    final = settings.home / "models" / files.digest
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(part, final)
    return ModelRef(name="base", version="1", digest=files.digest, source="mlflow-artifacts:/0/run/artifacts/model")


def task(prompt: str = "red heart", **values: Any) -> RenderTask:
    return render_task(prompt=prompt, width=SIZE, height=SIZE, guidance=3.0, **values)


class Hand:
    """Plays the router: sends leases, reads what the worker reports."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.topic_prefix + topics.dispatch("standard")
        self.hello: Hello | None = None
        self._producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 0})
        self._consumer = Consumer(
            {"bootstrap.servers": settings.bootstrap, "group.id": "hand", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        )
        self._consumer.assign([TopicPartition(settings.topic_prefix + topics.WORKERS, 0, 0)])

    def send(self, message: Lease | Revoke) -> float:
        """When the broker had acknowledged it, by the monotonic clock."""
        self._producer.produce(self.topic, message.to_json())
        assert self._producer.flush(30) == 0
        return time.monotonic()

    def lease(self, *tasks: RenderTask, model: ModelRef, **values: Any) -> Lease:
        assert self.hello is not None
        names = {"worker_id": self.hello.worker_id, "incarnation": self.hello.incarnation, "lease_s": 600.0}
        return lease_of(*tasks, model=model, **{**names, **values})

    def wait(self, enough: Callable[[WorkerMessage], bool], timeout: float = 600.0) -> WorkerMessage:
        """The first message from here on of which that is true."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            if message is None:
                continue
            found = worker_messages.validate_json(message.value() or b"")
            if enough(found):
                return found
        raise AssertionError(f"not within {timeout:g} s")

    def wait_hello(self, worker_id: str = "worker-0") -> None:
        """The worker whose leases are sent from here on."""
        found = self.wait(lambda message: isinstance(message, Hello) and message.worker_id == worker_id)
        assert isinstance(found, Hello)
        self.hello = found

    def wait_completed(self, *request_ids: str) -> Completed:
        """The next of these to end, which must be a completion."""
        found = self.wait(lambda message: getattr(message, "request_id", None) in request_ids)
        assert isinstance(found, Completed), found
        return found

    def close(self) -> None:
        self._consumer.close()


DEVICE_CALLS = (
    "encode",
    "embed",
    "embed_negative",
    "condition",
    "prepare",
    "preview",
    "decode",
)  #: what a pipeline works in, but for steps


@dataclass(frozen=True)
class Span:
    """Of work on the device, by the monotonic clock."""

    began: float
    ended: float

    def after(self, instant: float) -> float:
        """Seconds of it that lie behind the instant."""
        return max(0.0, self.ended - max(self.began, instant))


class Recorder:
    """Passes everything on to the pipeline and notes when each step began and ended, of how many steps its render is, and the same of
    all other work that it does for a render. Its steps can be left, as those of the worker's own loader."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        make_interruptible(denoiser_of(pipeline))
        self.steps: list[tuple[int, float, float]] = []
        self.others: list[Span] = []
        self.on_step: Callable[[int], None] = lambda _: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.pipeline, name)
        return self._noted(found) if name in DEVICE_CALLS else found

    def step(self, state: RenderState) -> RenderState:
        self.on_step(len(self.steps))
        began = time.monotonic()
        try:
            return self.pipeline.step(state)
        finally:
            self.steps.append((state.steps, began, time.monotonic()))

    def _noted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                return call(*arguments, **named)
            finally:
                self.others.append(Span(began, time.monotonic()))

        return noted


@contextmanager
def worker(settings: Settings, recorder: Recorder, worker_id: str = "worker-0", **options: Any) -> Iterator[tuple[Worker, threading.Event]]:
    """A worker in a thread of its own that renders with the recorder's pipeline, and what makes it stop."""
    stop = threading.Event()
    found = Worker(settings, WorkerOptions(pool="standard", worker_id=worker_id, **options), loader=lambda directory, device: recorder)
    thread = threading.Thread(target=found.run, args=(stop,), name=worker_id)
    thread.start()
    try:
        yield found, stop
    finally:
        stop.set()
        thread.join(120)
