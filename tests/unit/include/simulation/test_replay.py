from __future__ import annotations

from itertools import pairwise

import pytest

from include.contracts import topics
from include.contracts.dispatch import Lease
from include.contracts.requests import ServiceClass
from include.contracts.workers import Completed, Hello
from include.routing.router import Outgoing
from include.scheduling.cell import Decision
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from include.simulation.replay import BATCH, CONTROL, REALTIME, TICK, WORKER, Recorded, replay
from tests.unit.include.scheduling.harness import CELL, POOL, START, images_of, request, route

USAGE = {"gpu_seconds": 1.0, "render_s": 1.0, "steps": 4}


def scheduler() -> Scheduler:
    return Scheduler(cell=CELL, pools=frozenset({POOL}), store=MemoryStore())


class Recorder:
    """Calls a scheduler directly and writes down what its topics would have carried."""

    def __init__(self) -> None:
        self.scheduler = scheduler()
        self.recorded: list[Recorded] = []
        self.decisions: list[Decision] = []
        self.now = START

    def control(self) -> None:
        message = route()
        self._take(CONTROL, message.to_json(), self.scheduler.on_control(message, message.to_json().decode("latin-1"), self.now))

    def hello(self) -> None:
        message = Hello(worker_id="w-0", incarnation="i-1", cell=CELL, pool=POOL, at=self.now, slots=2, max_batch=2)
        self._take(WORKER, message.to_json(), self.scheduler.on_worker(message, message.to_json().decode("latin-1"), self.now))

    def submit(self, request_id: str, service_class: ServiceClass, **fields: float | str) -> None:
        message = request(request_id, **fields)
        raw = message.to_json()
        letter = REALTIME if service_class is ServiceClass.REALTIME else BATCH
        self._take(letter, raw, self.scheduler.submit(message, raw.decode("latin-1"), service_class, self.now))

    def complete_next(self) -> None:
        done = {one.request_id for one in self.decisions if not isinstance(one, Lease) and getattr(one, "state", None) == "Completed"}
        leases = [one for one in self.decisions if isinstance(one, Lease)]
        lease, task = next((lease, task) for lease in leases for task in lease.tasks if task.request_id not in done)
        message = Completed(
            worker_id=lease.worker_id,
            incarnation=lease.incarnation,
            cell=CELL,
            pool=POOL,
            at=self.now,
            lease_id=lease.lease_id,
            request_id=task.request_id,
            model_version="1",
            images=images_of(task),
            usage=USAGE,
        )
        self._take(WORKER, message.to_json(), self.scheduler.on_worker(message, message.to_json().decode("latin-1"), self.now))

    def tick(self) -> None:
        self._take(TICK, None, self.scheduler.tick(self.now))

    def _take(self, letter: str, raw: bytes | None, decisions: list[Decision]) -> None:
        self.recorded.append((self.now, letter, None if raw is None else raw.decode("latin-1")))
        self.decisions += decisions
        self.now += 0.125


@pytest.fixture
def recorder() -> Recorder:
    """Two dozen requests of both classes, one that expires, on one worker."""
    made = Recorder()
    made.control()
    made.hello()
    for number in range(24):
        service_class = ServiceClass.REALTIME if number % 3 else ServiceClass.BATCH
        made.submit(f"r-{number}", service_class, tenant=f"tenant-{number % 4}", prompt=f"number {number}, naïve")
    made.submit("late", ServiceClass.BATCH, deadline_at=made.now + 5.0)
    for _ in range(12):
        made.complete_next()
    made.now += 10.0
    made.tick()
    return made


def _messages(outgoing: list[Outgoing]) -> list[str]:
    return [text for _, text in outgoing]


def test_a_replay_decides_as_the_direct_calls_did(recorder: Recorder):
    outgoing = replay(recorder.recorded, scheduler())
    assert _messages(outgoing) == [one.model_dump_json(exclude_none=True, ensure_ascii=True) for one in recorder.decisions]
    assert any("Expired" in text for text in _messages(outgoing))
    assert {topic for topic, _ in outgoing} == {topics.EVENTS, topics.dispatch(POOL)}


def test_a_replay_twice_is_the_same_and_in_order_of_time(recorder: Recorder):
    assert replay(recorder.recorded, scheduler()) == replay(recorder.recorded, scheduler())
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(recorder.recorded))


def test_what_could_not_be_read_is_replayed_too():
    recorded: list[Recorded] = [
        (START, REALTIME, "{"),
        (START, BATCH, None),
        (START, WORKER, "[]"),
        (START, CONTROL, None),
        (START, TICK, None),
    ]
    assert [topic for topic, _ in replay(recorded, scheduler())] == [topics.DEAD_LETTERS] * 3


def test_an_unknown_letter_is_an_error():
    with pytest.raises(ValueError, match="'x'"):
        replay([(START, "x", "")], scheduler())
