"""The worker's line to the router through the gateway: what :class:`~include.worker.link.WorkerLink` is over Kafka."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx

from include.contracts.dispatch import AnyDispatchMessage
from include.contracts.workers import WorkerMessage
from include.worker.dispatches import Unreadable, read_dispatch
from include.worker.edge_client import CredentialRefusedError, EdgeClient, words_of

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
POLL_FOR_S = 20.0  #: how long the gateway may hold a question for dispatches open
MAX_UNSENT = 10_000
BATCH, BATCH_BYTES = 100, 512 * 1024
CLOCK_OFF_S = 5.0

Outgoing = tuple[WorkerMessage, Callable[[], None] | None]


class EdgeLink:
    """Rides out a gateway that is away: what was sent stays queued and in order until it returns, and the cursor into the dispatches
    goes on where it was. The gateway keeps neither, so its restart loses nothing."""

    def __init__(self, client: EdgeClient, *, cell: str, pool: str, worker_id: str, incarnation: str) -> None:
        self.client = client
        self.cell = cell
        self.pool = pool
        self.worker_id = worker_id
        self.incarnation = incarnation
        self.where = f"the gateway at {client.gateway}"
        self._unsent: deque[Outgoing] = deque()
        self._changed = threading.Condition()
        self._received: queue.Queue[AnyDispatchMessage | Unreadable] = queue.Queue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_all, name="edge-send", daemon=True),
            threading.Thread(target=self._receive_all, name="edge-receive", daemon=True),
        ]

    def connect(self, stop: threading.Event) -> bool:
        """From here on :meth:`poll` misses no dispatch. Waits for the gateway; False where ``stop`` was set meanwhile.

        Raises :class:`CredentialRefusedError` where the gateway won't have this worker, which waiting does not change.
        """
        backoff = Backoff()
        while not stop.is_set():
            try:
                answer = self.client.call("GET", "session")
                if answer.is_success:
                    self._check_session(answer.json())
                    break
                if answer.status_code == 403:
                    raise CredentialRefusedError(words_of(answer))
                log.warning("waiting for %s: %s", self.where, words_of(answer))
            except httpx.HTTPError as error:
                log.warning("waiting for %s: %s", self.where, error or type(error).__name__)
            stop.wait(backoff.next_s())
        if stop.is_set():
            return False
        for thread in self._threads:
            thread.start()
        return True

    def poll(self, timeout_s: float) -> list[AnyDispatchMessage | Unreadable]:
        """Dispatches for this worker's incarnation."""
        found: list[AnyDispatchMessage | Unreadable] = []
        try:
            found.append(self._received.get(timeout=timeout_s))
            while True:
                found.append(self._received.get_nowait())
        except queue.Empty:
            return found

    def send(self, message: WorkerMessage, on_delivered: Callable[[], None] | None = None) -> None:
        with self._changed:
            if len(self._unsent) >= MAX_UNSENT:
                log.error("%s is lost: the gateway is away and the send buffer is full", type(message).__name__)
                return
            self._unsent.append((message, on_delivered))
            self._changed.notify_all()

    def close(self, timeout_s: float) -> int:
        """Waits for the acknowledgements; returns how many did not come."""
        with self._changed:
            if self._threads[0].is_alive():
                self._changed.wait_for(lambda: not self._unsent, timeout_s)
            left = len(self._unsent)
            self._closed.set()
            self._changed.notify_all()
        self.client.close()
        return left

    def _check_session(self, session: dict[str, Any]) -> None:
        for name, own in (("cell", self.cell), ("pool", self.pool)):
            if session[name] != own:
                raise CredentialRefusedError(f"the credential is for {name} {session[name]}, this worker is set to {own}")
        off_s = time.time() - session["now"]
        if abs(off_s) > CLOCK_OFF_S:
            log.error(
                "this machine's clock is %.0f s %s; leases will be lost until NTP sets it", abs(off_s), "fast" if off_s > 0 else "slow"
            )

    def _send_all(self) -> None:
        backoff = Backoff()
        while (batch := self._next_batch()) is not None:
            try:
                answer = self.client.call("POST", "messages", content=_body(batch), headers={"Content-Type": "application/json"})
            except (httpx.HTTPError, CredentialRefusedError, RuntimeError) as error:
                self._pause("send", backoff, str(error) or type(error).__name__)
                continue
            if not answer.is_success:
                self._pause("send", backoff, words_of(answer))
                continue
            backoff.reset()
            self._settle(batch, {refusal["index"]: refusal["message"] for refusal in answer.json()["refused"]})

    def _next_batch(self) -> list[Outgoing] | None:
        """The oldest unsent messages, which stay where they are until they are settled; None once the link is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closed.is_set())
            if self._closed.is_set():
                return None
            batch: list[Outgoing] = []
            size = 0
            for outgoing in self._unsent:
                size += len(outgoing[0].to_json())
                if len(batch) >= BATCH or (batch and size > BATCH_BYTES):
                    break
                batch.append(outgoing)
            return batch

    def _settle(self, batch: list[Outgoing], refused: dict[int, str]) -> None:
        with self._changed:
            for _ in batch:
                self._unsent.popleft()
            self._changed.notify_all()
        for index, (message, on_delivered) in enumerate(batch):
            if index in refused:
                log.error("%s was refused: %s", type(message).__name__, refused[index])
            elif on_delivered:
                on_delivered()

    def _receive_all(self) -> None:
        backoff, after = Backoff(), ""
        while not self._closed.is_set():
            try:
                question = {"after": after, "wait_s": POLL_FOR_S}
                answer = self.client.call("GET", "dispatches", params=question, timeout=httpx.Timeout(POLL_FOR_S + 10, connect=5.0))
            except (httpx.HTTPError, CredentialRefusedError, RuntimeError) as error:
                self._pause("receive", backoff, str(error) or type(error).__name__)
                continue
            if not answer.is_success:
                self._pause("receive", backoff, words_of(answer))
                continue
            backoff.reset()
            said = answer.json()
            after = said["after"]
            for message in said["messages"]:
                self._take(message)

    def _take(self, message: Any) -> None:
        found = read_dispatch(message, worker_id=self.worker_id, incarnation=self.incarnation)
        if found is not None:
            self._received.put(found)

    def _pause(self, what: str, backoff: Backoff, words: str) -> None:
        if self._closed.is_set():
            return
        pause_s = backoff.next_s()
        log.warning("%s: can't %s, next try in %.1f s: %s", self.where, what, pause_s, words)
        self._closed.wait(pause_s)


class Backoff:
    """Doubling pauses, each shortened by up to a half by chance, so that many workers don't come back at once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def next_s(self) -> float:
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s * random.uniform(0.5, 1.0)


def _body(batch: list[Outgoing]) -> bytes:
    return b"[" + b",".join(message.to_json() for message, _ in batch) + b"]"
