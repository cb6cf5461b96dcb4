"""A worker that speaks the contract over real Kafka and renders nothing: it answers each lease at once, or holds it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from include.config import Settings
from include.contracts import topics
from include.contracts.objects import MEDIA_TYPES, image_key
from include.contracts.requests import ImageFormat

HEARTBEAT_S = 1.0


class StubWorker:
    """Runs in a thread from ``start`` to ``stop``, as a context from its begin to its end; ``vanish`` ends it as well and tells nobody.

    ``answer`` is asked for each lease and returns the messages to send, as dictionaries with ``kind``; by default every task completes.
    """

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        *,
        slots: int = 2,
        max_batch: int = 1,
        answer: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None,
    ) -> None:
        self.settings = settings
        self.worker_id = worker_id
        self.incarnation = uuid.uuid4().hex[:12]
        self.slots = slots
        self.max_batch = max_batch
        self.answer = answer or complete_all
        self.leases: list[dict[str, Any]] = []
        self.revoked: list[dict[str, Any]] = []
        self.held: dict[str, set[str]] = {}
        self._stop = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=worker_id)
        self._producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 0, "log_level": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap,
                "group.id": f"stub-{worker_id}-{self.incarnation}",
                "enable.auto.commit": False,
                "log_level": 0,
                "fetch.wait.max.ms": 5,
                "fetch.queue.backoff.ms": 5,
            }
        )

    def __enter__(self) -> StubWorker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> StubWorker:
        topic = self.settings.topic_prefix + topics.dispatch(self.settings.worker_pool)
        _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        self._consumer.assign([TopicPartition(topic, 0, end)])
        self.say("hello", slots=self.slots, max_batch=self.max_batch)
        self._credit()
        self._thread.start()
        return self

    def release(self) -> None:
        """From now on complete everything, what is held first."""
        self.answer = complete_all
        self._released.set()

    def vanish(self) -> None:
        """End without a word, as a killed process does."""
        self._stop.set()
        self._thread.join(10)
        self._consumer.close()
        self._producer.flush(10)

    def stop(self) -> None:
        """Drain; after :meth:`vanish` nothing is left to say."""
        if not self._stop.is_set():
            self.vanish()
            self.say("goodbye", handed_back=list(self.held))
            self._producer.flush(10)

    def say(self, kind: str, **fields: Any) -> None:
        identity = {"worker_id": self.worker_id, "incarnation": self.incarnation, "cell": self.settings.cell}
        message = {"kind": kind, **identity, "pool": self.settings.worker_pool, "at": time.time(), **fields}
        self._producer.produce(self.settings.topic_prefix + topics.WORKERS, json.dumps(message))
        self._producer.poll(0)

    def _credit(self) -> None:
        self.say("credit", slots=self.slots, max_batch=self.max_batch, held=list(self.held))

    def _run(self) -> None:
        beat_at = time.monotonic() + HEARTBEAT_S
        while not self._stop.is_set():
            for message in self._consumer.consume(100, 0.05):
                if message.error() is None:
                    self._take(json.loads(message.value()))
            if self._released.is_set():
                self._released.clear()
                for lease in [lease for lease in self.leases if lease["lease_id"] in self.held]:
                    self.send(complete_all(lease))
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + HEARTBEAT_S
                self._credit()

    def _take(self, message: dict[str, Any]) -> None:
        if message["worker_id"] != self.worker_id or message.get("incarnation", self.incarnation) != self.incarnation:
            return
        if message["kind"] == "revoke":
            self.revoked.append(message)
            self._revoke(message)
            return
        self.leases.append(message)
        self.held[message["lease_id"]] = {task["request_id"] for task in message["tasks"]}
        self.send(self.answer(message))

    def _revoke(self, message: dict[str, Any]) -> None:
        open_requests = self.held.get(message["lease_id"], set())
        open_requests -= set(message.get("request_ids") or open_requests)
        if not open_requests:
            self.held.pop(message["lease_id"], None)

    def send(self, answers: list[dict[str, Any]]) -> None:
        """Send answers and keep the account of what is held."""
        for answer in answers:
            self.say(**answer)
            if answer["kind"] in ("completed", "failed"):
                open_requests = self.held.get(answer["lease_id"], set())
                open_requests -= {answer["request_id"]} if answer.get("request_id") else set(open_requests)
                if not open_requests:
                    self.held.pop(answer["lease_id"], None)


def complete_all(lease: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": "started", "lease_id": lease["lease_id"]}, *(completion(lease, task) for task in lease["tasks"])]


def hold(lease: dict[str, Any]) -> list[dict[str, Any]]:
    """Take it and say nothing."""
    return []


def completion(lease: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    image_format = ImageFormat(task["image_format"])
    digest = hashlib.sha256(f"{task['seed']}".encode()).hexdigest()
    images = [
        {
            "index": index,
            "key": image_key(task["tenant"], task["request_id"], index, image_format),
            "sha256": digest,
            "size_bytes": 1,
            "width": task["width"],
            "height": task["height"],
            "seed": (task["seed"] + index) % 2**63,
            "media_type": MEDIA_TYPES[image_format],
        }
        for index in range(task["images"])
    ]
    return {
        "kind": "completed",
        "lease_id": lease["lease_id"],
        "request_id": task["request_id"],
        "model_version": lease["model"]["version"],
        "images": images,
        "usage": {"gpu_seconds": 0.01, "render_s": 0.01, "steps": task["steps"]},
    }
