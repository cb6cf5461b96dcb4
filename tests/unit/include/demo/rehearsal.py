"""The burst against the scheduler itself, in a time of its own: workers are numbers, the gate before batch requests is a list."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from include.contracts.control import ModelDefaults, Policy
from include.contracts.defaults import default_policy
from include.contracts.dispatch import Lease
from include.contracts.events import SharesEvent, StatusEvent, Usage
from include.contracts.requests import GenerationRequest, ServiceClass
from include.demo.burst import Burst
from include.demo.burst_fates import fates_of, held_back
from include.demo.burst_plan import BurstRequest, BurstSize, Capacity, plan_burst
from include.demo.burst_policy import burst_policy
from include.demo.observer import Seen
from include.scheduling.cell import Decision
from tests.unit.include.scheduling.harness import START, Desk, images_of, letters, route

STEP_S = 0.05
DEFAULTS = ModelDefaults(width=64, height=64, steps=12, guidance=3.0, sizes=((64, 64),), step_s=0.012)


@dataclass
class Machine:
    """Renders the first lease it holds, one after another."""

    name: str
    held: deque[Lease] = field(default_factory=deque)
    busy_until: float = 0.0


class Rehearsal:
    """:param slower: how much longer everything takes than it was measured to take before"""

    def __init__(self, seconds: float = 10.0, unit_s: float = 0.3, slower: float = 1.0) -> None:
        self.capacity = Capacity(workers=2, unit_s=unit_s, defaults=DEFAULTS)
        self.plan = plan_burst(BurstSize(run="run", capacity=self.capacity, seconds=seconds))
        self.seconds = seconds
        self.policy: Policy = burst_policy(default_policy(), self.capacity)
        self.desk = Desk(routed=False)
        self._slower = slower
        self._machines = [Machine("worker-0"), Machine("worker-1")]
        self._waiting: deque[BurstRequest] = deque()
        self._seen = Seen()
        self._moves: list[SharesEvent] = []
        self._peak = 0

    def run(self, limit_s: float = 300.0) -> Burst:
        self._begin()
        coming, beat = deque(self.plan), 0
        while (coming or self._open()) and self.desk.now < START + limit_s:
            self.desk.now += STEP_S
            while coming and START + coming[0].at_s <= self.desk.now:
                self._arrive(coming.popleft())
            self._pass_gate()
            self._note(self.desk.tick())
            for machine in self._machines:
                self._render(machine)
            beat += 1
            if beat % 20 == 0:
                for machine in self._machines:
                    self._note(self.desk.credit(machine.name, held=[lease.lease_id for lease in machine.held], slots=2, max_batch=4))
        return self._finished()

    def _begin(self) -> None:
        for message in (
            route(width=64, height=64, steps=12, guidance=3.0, sizes=((64, 64),), step_s=self.capacity.unit_s / 24),
            self.policy,
        ):
            self._note(self.desk.control(message))
        for machine in self._machines:
            self._note(self.desk.hello(machine.name, slots=2, max_batch=4, warm_models=("emoji/1",)))

    def _arrive(self, request: BurstRequest) -> None:
        if request.planned.service_class is ServiceClass.BATCH:
            self._waiting.append(request)
        else:
            self._submit(request)

    def _pass_gate(self) -> None:
        while self._waiting and self.desk.scheduler.batch_open():
            self._submit(self._waiting.popleft())
        self._peak = max(self._peak, len(self._waiting))

    def _submit(self, request: BurstRequest) -> None:
        message = GenerationRequest.from_json(request.planned.value or b"")
        raw = (request.planned.value or b"").decode("latin-1")
        self._note(self.desk.take(self.desk.scheduler.submit(message, raw, request.planned.service_class, self.desk.now)))

    def _render(self, machine: Machine) -> None:
        while machine.held and machine.busy_until <= self.desk.now:
            lease = machine.held.popleft()
            for task in lease.tasks:
                cost = self._cost(task.steps, task.images)
                usage = Usage(gpu_seconds=cost, render_s=cost, steps=task.steps)
                images = tuple(
                    image.model_copy(update=dict(zip(("width", "height"), task.upscale_to or (task.width, task.height), strict=True)))
                    for image in images_of(task)
                )
                self._note(self.desk.complete(lease, task.request_id, usage=usage, images=images))
            self._start(machine)

    def _start(self, machine: Machine) -> None:
        if machine.held:
            machine.busy_until = self.desk.now + sum(self._cost(task.steps, task.images) for task in machine.held[0].tasks)

    def _cost(self, steps: int, images: int) -> float:
        return self.capacity.unit_s * steps / DEFAULTS.steps * images * self._slower

    def _note(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, StatusEvent):
                self._seen.events[decision.request_id].append(decision)
            elif isinstance(decision, SharesEvent):
                self._moves.append(decision)
            elif isinstance(decision, Lease):
                machine = next(machine for machine in self._machines if machine.name == decision.worker_id)
                machine.held.append(decision)
                if len(machine.held) == 1:
                    self._start(machine)

    def _open(self) -> bool:
        return any(self._seen.terminal(request.id) is None for request in self.plan)

    def _finished(self) -> Burst:
        sent_at = {request.id: START + request.at_s for request in self.plan}
        fates = fates_of(self.plan, sent_at, self._seen, DEFAULTS.steps)
        by_request = defaultdict(list)
        for letter in letters(self.desk.decisions):
            by_request[letter.request_id or ""].append(letter)
        return Burst(
            capacity=self.capacity,
            policy=self.policy,
            started_at=START,
            sending_s=self.seconds,
            seconds=self.desk.now - START,
            fates=fates,
            moves=self._moves,
            letters=dict(by_request),
            peak_held_back=self._peak,
            peak_lag=held_back(fates),
        )
