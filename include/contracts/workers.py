"""What workers tell the router.

Credit is stated whole, never as a difference: each message that carries credit says how many micro-batches the worker may hold and which
leases it does hold. A lost, repeated or replayed message therefore can't skew the account, and a restored router is right again one
heartbeat later.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from include.contracts.base import Identifier, Label, Message, Name, Seconds, Timestamp
from include.contracts.errors import Reason
from include.contracts.events import ImageResult, Progress, Usage


class WorkerKind(Label):
    HELLO = "hello"  #: a process started; leases of its earlier incarnations are void
    CREDIT = "credit"  #: heartbeat: room, held leases, warm models
    STARTED = "started"  #: a lease began to render
    PROGRESS = "progress"  #: renews the lease
    COMPLETED = "completed"  #: one request of a lease is stored
    FAILED = "failed"  #: one request of a lease, or the whole lease, is not going to be
    GOODBYE = "goodbye"  #: drained; unfinished leases are handed back


class WorkerMessage(Message):
    worker_id: Identifier = Field(description="Stable name of the worker.")
    incarnation: Identifier = Field(description="Differs at every start of the process, so that the router fences earlier ones.")
    cell: Name = Field(description="The cell whose scheduler this is for.")
    pool: Name = Field(description="The pool the worker belongs to.")
    at: Timestamp


class Hello(WorkerMessage):
    kind: Literal[WorkerKind.HELLO] = WorkerKind.HELLO
    device: str = Field("cpu", description="cpu or cuda:N.")
    slots: int = Field(2, ge=1, le=64, description="Micro-batches it may hold: one runs, the rest wait.")
    max_batch: int = Field(1, ge=1, le=256, description="Requests in a micro-batch at most.")
    warm_models: tuple[str, ...] = Field((), description="Loaded versions as name/version.")


class Credit(WorkerMessage):
    kind: Literal[WorkerKind.CREDIT] = WorkerKind.CREDIT
    slots: int = Field(2, ge=0, le=64, description="Micro-batches it may hold now; 0 while it drains.")
    max_batch: int = Field(1, ge=1, le=256, description="Requests in a micro-batch at most.")
    held: tuple[Identifier, ...] = Field((), description="Lease ids it holds, running or waiting.")
    warm_models: tuple[str, ...] = Field((), description="Loaded versions as name/version.")
    free_memory_mb: float | None = Field(None, ge=0, description="Free device memory.")
    utilisation: float | None = Field(None, ge=0, le=1, description="Share of the last interval it rendered.")
    gpu_utilisation: float | None = Field(None, ge=0, le=1, description="As the GPU's driver measures it.")
    temperature_c: float | None = Field(None, ge=-50, le=200, description="Of the GPU.")
    refused_models: tuple[str, ...] = Field((), max_length=64, description="Versions as name/version that it tried and won't serve.")
    parked: int = Field(0, ge=0, le=64, description="Renders put aside for more urgent ones.")


class Started(WorkerMessage):
    kind: Literal[WorkerKind.STARTED] = WorkerKind.STARTED
    lease_id: Identifier


class RenderProgress(WorkerMessage):
    kind: Literal[WorkerKind.PROGRESS] = WorkerKind.PROGRESS
    lease_id: Identifier
    progress: Progress


class Completed(WorkerMessage):
    kind: Literal[WorkerKind.COMPLETED] = WorkerKind.COMPLETED
    lease_id: Identifier
    request_id: Identifier
    model_version: str
    images: tuple[ImageResult, ...] = Field(min_length=1)
    usage: Usage
    cached: bool = Field(False, description="The images were there already, from an earlier attempt or a cache.")
    degraded: tuple[str, ...] = Field((), max_length=8, description="What the worker gave up beyond what its task says, in words.")


class Failed(WorkerMessage):
    kind: Literal[WorkerKind.FAILED] = WorkerKind.FAILED
    lease_id: Identifier
    request_id: Identifier | None = Field(None, description="Empty means every request of the lease.")
    reason: Reason
    retryable: bool = Field(True, description="Whether another attempt may succeed.")
    render_s: Seconds = 0.0


class Goodbye(WorkerMessage):
    kind: Literal[WorkerKind.GOODBYE] = WorkerKind.GOODBYE
    handed_back: tuple[Identifier, ...] = Field((), description="Lease ids it did not finish.")


AnyWorkerMessage = Annotated[Hello | Credit | Started | RenderProgress | Completed | Failed | Goodbye, Field(discriminator="kind")]
worker_messages: TypeAdapter[AnyWorkerMessage] = TypeAdapter(AnyWorkerMessage)
