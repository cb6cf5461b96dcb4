"""What the scheduler knows of an accepted request and of a lease, and how both are written to the store."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto

from pydantic_core import to_json

from include.contracts.dispatch import RenderTask
from include.contracts.events import Admission, Lane
from include.contracts.requests import GenerationRequest, ServiceClass
from include.contracts.wire import ascii_json
from include.scheduling.estimates import Told

#: Model name, width, height, steps, guided, variant: what requests must share to render together. The version is added at dispatch.
Shape = tuple[str, int, int, int, bool, str]

#: Names of pools.
Pools = frozenset[str]

_FORMAT = "2"


class Phase(Enum):
    HELD = auto()  #: came before the control topic was read; not resolved yet
    QUEUED = auto()  #: in its lane
    PARKED = auto()  #: out of its lane because its model has no serving version at the moment
    DELAYED = auto()  #: between two attempts
    LEASED = auto()  #: a worker has it


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One request between acceptance and its terminal state."""

    request: GenerationRequest
    raw: str  #: the original bytes as ISO-8859-1
    service_class: ServiceClass
    accepted_at: float
    seq: int  #: order of acceptance
    phase: Phase = Phase.HELD
    lane: Lane = Lane.LOW
    task: RenderTask | None = None  #: None only while held
    shape: Shape = ("", 0, 0, 0, False, "")
    predicted_s: float = 0.0  #: device seconds
    least_s: float = 0.0  #: device seconds it takes at least, as far as one can tell
    weight: float = 1.0  #: of its tenant, against the others of its lane
    pools: Pools = frozenset()  #: where it may render
    admission: Admission = Admission.ADMITTED
    estimate: Told | None = None  #: of its wait, as it was last told
    dispatches: int = 0  #: leases so far; an event's ``attempt``
    failures: int = 0  #: attempts that count against ``max_attempts``
    not_before: float = 0.0  #: end of the backoff
    alone: bool = False  #: renders in a micro-batch of its own
    noted: bool = False  #: whether its attempts are in the store
    lease: LeaseRecord | None = None
    last_worker: str = ""
    queued_at: float = 0.0  #: when it last came into its lane
    passed_over: int = 0  #: times that it let others go before it for the sake of a loaded model
    dispatched_at: float = 0.0
    progress_at: float = 0.0  #: when progress was last announced
    id: str = field(init=False)
    tenant: str = field(init=False)
    deadline: float = field(init=False)  #: infinite where none was given

    def __post_init__(self) -> None:
        self.id, self.tenant = self.request.request_id, self.request.tenant
        self.deadline = float("inf") if self.request.deadline_at is None else self.request.deadline_at

    def resolve(self, model: str, task: RenderTask, predicted_s: float, least_s: float = 0.0) -> None:
        """Give it its task; what it asks of the device stays that, whatever becomes of its model's defaults."""
        self.task, self.predicted_s, self.least_s = task, predicted_s, least_s
        self.shape = (model, task.width, task.height, task.steps, task.guided, task.variant)

    def encode(self) -> str:
        """Tab-separated fields, the original last, since only it may hold a tab. A held request has no lane, model and task yet."""
        if self.task is None:
            return f"{_FORMAT}\t{self.service_class.value}\t{self.accepted_at!r}\t{self.seq}\t\t\t\t\t\t\t\t\t{self.raw}"
        task, pools = ascii_json(self.task), ",".join(sorted(self.pools))
        return (
            f"{_FORMAT}\t{self.service_class}\t{self.accepted_at!r}\t{self.seq}\t{self.lane}\t{self.shape[0]}"
            f"\t{self.predicted_s!r}\t{self.least_s!r}\t{self.weight!r}\t{pools}\t{self.admission}\t{task}\t{self.raw}"
        )

    def encode_attempts(self) -> str:
        return f"{self.dispatches}\t{self.failures}\t{self.not_before!r}\t{self.last_worker}"

    def decode_attempts(self, text: str) -> None:
        self.noted = True
        dispatches, failures, not_before, self.last_worker = text.split("\t")
        self.dispatches, self.failures, self.not_before = int(dispatches), int(failures), float(not_before)


def decode_entry(text: str) -> Entry:
    """Read back what :meth:`Entry.encode` of this release or of the one before wrote; that one's entries have no pools yet."""
    if text.startswith(_FORMAT + "\t"):
        _, service_class, accepted_at, seq, lane, model, predicted_s, least_s, weight, pools, admission, task, raw = text.split("\t", 12)
    else:
        service_class, accepted_at, seq, lane, model, predicted_s, task, raw = text.split("\t", 7)
        least_s, weight, pools, admission = "0", "1", "", Admission.ADMITTED.value
    entry = Entry(
        request=GenerationRequest.from_json(raw.encode("latin-1")),
        raw=raw,
        service_class=ServiceClass(service_class),
        accepted_at=float(accepted_at),
        seq=int(seq),
        phase=Phase.QUEUED if lane else Phase.HELD,
        lane=Lane(lane) if lane else Lane.LOW,
    )
    if task:
        entry.resolve(model, RenderTask.model_validate_json(task), float(predicted_s), float(least_s))
        entry.weight, entry.admission = float(weight), Admission(admission)
        entry.pools = frozenset(pools.split(",")) if pools else frozenset()
    return entry


@dataclass(slots=True, kw_only=True, eq=False)
class LeaseRecord:
    """A current lease and the requests that are still open under it."""

    id: str
    worker_id: str
    incarnation: str
    pool: str
    model_version: str
    issued_at: float
    expires_at: float
    entries: dict[str, Entry] = field(default_factory=dict)
    started: bool = False
    started_at: float = 0.0
    size: int = 0  #: requests it was given out with; 0 where the release before gave it
    predicted_s: float = 0.0  #: device seconds of all of them
    missed: int = 0  #: heartbeats in a row that did not report it, once it was due to be reported

    def encode(self) -> str:
        return to_json(
            {
                "worker_id": self.worker_id,
                "incarnation": self.incarnation,
                "pool": self.pool,
                "model_version": self.model_version,
                "issued_at": self.issued_at,
                "size": self.size,
                "predicted_s": self.predicted_s,
                "requests": {name: [entry.dispatches, entry.failures, entry.last_worker] for name, entry in self.entries.items()},
            }
        ).decode()


class EndedLeases:
    """Ids of leases that ended lately. A heartbeat may still report one that crossed its end; and none is given out again."""

    def __init__(self, at_most: int = 4096) -> None:
        self._at_most = at_most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._ids

    def add(self, lease_id: str) -> None:
        self._ids[lease_id] = None
        if len(self._ids) > self._at_most:
            self._ids.popitem(last=False)
