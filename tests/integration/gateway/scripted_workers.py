"""A stand-in for router and workers that renders slowly enough to be watched, cancelled and killed: what it says is what they would say."""

from __future__ import annotations

import io
import threading
import time
from types import TracebackType
from typing import Any

from PIL import Image

from include.client.reader import Start, TopicReader
from include.config import Settings
from include.contracts import topics
from include.contracts.control import Cancel, control_messages
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import Lane, Progress, State, StatusEvent, Usage, event_id
from include.contracts.objects import preview_key
from include.contracts.requests import GenerationRequest
from include.contracts.workers import Credit, Hello, RenderProgress, Started
from include.platform.supervisor import Supervisor
from tests.integration.gateway.scripted_router import ScriptedRouter
from tests.support.waiting import wait_for


class ScriptedWorkers(ScriptedRouter):
    """The watched request completes once both previews were fetched, those on worker-0 once its process was replaced."""

    def __init__(self, settings: Settings, fetched: list[bytes]) -> None:
        super().__init__(settings)
        self._settings = settings
        self._fetched = fetched
        self._control = TopicReader(settings, topics.CONTROL, Start.END)
        self._acting: list[threading.Thread] = []
        self._threads.append(threading.Thread(target=self._obey))
        self._first_pid = self._pid()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._acting:
            thread.join()
        super().__exit__(kind, error, trace)

    def _complete(self, request: GenerationRequest) -> None:
        acts = {"watched": self._be_watched, "cancelled": self._begin, "crash": self._be_killed}
        act = next(act for name, act in acts.items() if f"-{name}-" in request.request_id)
        self._acting.append(threading.Thread(target=act, args=(request,)))
        self._acting[-1].start()

    def _be_watched(self, request: GenerationRequest) -> None:
        for count, (step, colour) in enumerate(((32, "grey"), (64, "red")), 1):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), colour).save(buffer, "JPEG")
            self._store.put(preview_key(request.tenant, request.request_id), buffer.getvalue(), "image/jpeg")
            self._tell(request, State.PROCESSING, step=step, worker_id="worker-0")
            wait_for(lambda count=count: len(self._fetched) >= count, 20, f"preview {count} is fetched")
        self._end_well(request, attempt=1)

    def _begin(self, request: GenerationRequest) -> None:
        lease_id = f"lease-{request.request_id}"
        self._report(Started, lease_id=lease_id)
        self._tell(request, State.PROCESSING, worker_id="worker-1", trace={"lease_id": lease_id})
        self._report(RenderProgress, lease_id=lease_id, progress=Progress(step=40, steps=200))
        self._tell(request, State.PROCESSING, step=40, worker_id="worker-1")

    def _obey(self) -> None:
        with self._control:
            while not self._stopped.is_set():
                record = self._control.poll(0.1)
                message = control_messages.validate_json(record.value) if record is not None and record.value else None
                if isinstance(message, Cancel):
                    reason = Reason(code=ReasonCode.CANCELLED, message="cancelled by its tenant")
                    self._say(message.request_id, message.tenant, State.CANCELLED, reason=reason)
                    self._report(Credit)

    def _be_killed(self, request: GenerationRequest) -> None:
        self._report(Hello, worker_id="worker-0")
        self._tell(request, State.PROCESSING, step=20, worker_id="worker-0", attempt=1)
        wait_for(lambda: self._pid() not in (0, self._first_pid), 40, "the supervisor starts worker-0 anew")
        self._report(Hello, worker_id="worker-0", incarnation="i2")
        reason = Reason(code=ReasonCode.WORKER_LOST, message="worker worker-0 started anew while it held the lease")
        self._tell(request, State.RETRYING, reason=reason, attempt=1)
        self._tell(request, State.PROCESSING, worker_id="worker-1", attempt=2)
        self._end_well(request, attempt=2)

    def _end_well(self, request: GenerationRequest, attempt: int) -> None:
        usage = Usage(gpu_seconds=0.1, render_s=0.1, steps=12)
        common = {"usage": usage, "waited_s": 0.1, "lane": Lane.HIGH, "attempt": attempt}
        self._say(request.request_id, request.tenant, State.COMPLETED, images=(self._image(request, 0),), **common)

    def _pid(self) -> int:
        found = Supervisor(self._settings).info()["worker-0"]
        return found.pid if found.state in ("STARTING", "RUNNING") else 0

    def _report(self, kind: Any, worker_id: str = "worker-1", incarnation: str = "i1", **fields: Any) -> None:
        message = kind(worker_id=worker_id, incarnation=incarnation, cell="cell-0", pool="standard", at=time.time(), **fields)
        self._producer.post(topics.WORKERS, message.to_json(), worker_id)

    def _tell(self, request: GenerationRequest, state: State, step: int = 0, attempt: int = 1, **fields: Any) -> None:
        said = StatusEvent(
            event_id=event_id(request.request_id, state, attempt, step),
            request_id=request.request_id,
            tenant=request.tenant,
            state=state,
            at=time.time(),
            attempt=attempt,
            progress=Progress(step=step, steps=request.steps or 1) if step else None,
            **fields,
        )
        self._producer.post(topics.EVENTS, said.to_json(), request.request_id)
