"""Whatever happens in whatever order: one end a request, credit never overdrawn, no mixed batch, a restart changes nothing, all ends."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from include.contracts.control import Policy, TenantQuota
from include.contracts.defaults import default_policy
from include.contracts.dispatch import Lease
from include.contracts.events import Lane, SharesEvent, Usage
from include.contracts.policy import PoolRule, Quota
from include.contracts.requests import ServiceClass, Tier
from include.scheduling.cell import Decision
from include.scheduling.records import Phase
from include.scheduling.store import Table
from tests.unit.include.scheduling.guarantees import FloorAccount
from tests.unit.include.scheduling.harness import LEASE_S, MAX_ATTEMPTS, Desk, events, leases, route
from tests.unit.include.scheduling.snapshot import snapshot

WORKERS = {"w-0": "standard", "w-1": "standard", "w-2": "spot"}
CLOSERS = {"closer-0": "standard", "closer-1": "spot"}
numbers = st.integers(0, 10_000)

#: Runs of up to 50 steps each; ``ATELIER_STATE_MACHINE_RUNS=2000`` for a longer look, which takes minutes.
EXAMPLES = int(os.environ.get("ATELIER_STATE_MACHINE_RUNS", "500"))


def policy(**changes: Any) -> Policy:
    return default_policy(lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS).model_copy(update=changes)


@dataclass
class Machine:
    """A worker as it knows itself."""

    incarnation: int = 0
    slots: int = 2
    max_batch: int = 1
    held: dict[str, Lease] = field(default_factory=dict)
    pool: str = "standard"
    heard_at: float = 0.0

    @property
    def name(self) -> str:
        return f"i-{self.incarnation}"


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(routed=st.booleans())
    def start(self, routed: bool) -> None:
        self.desk = Desk(routed=routed)
        self.machines = {name: Machine(pool=pool) for name, pool in WORKERS.items()}
        self.given: list[Lease] = []
        self.floors = FloorAccount()
        self.sent = 0

    @rule(
        again=st.booleans(),
        number=numbers,
        tenant=st.sampled_from(("a", "b", "c")),
        tier=st.sampled_from(Tier),
        service_class=st.sampled_from(ServiceClass),
        side=st.sampled_from((32, 64)),
        model=st.sampled_from((None, "emoji", "later")),
        deadline=st.none() | st.floats(1, 90),
        steps=st.sampled_from((4, 8, 40)),
        pools=st.sampled_from(((), (), ("standard",), ("spot",))),
    )
    def submit(
        self,
        again: bool,
        number: int,
        tenant: str,
        tier: Tier,
        service_class: ServiceClass,
        side: int,
        model: str | None,
        deadline: float | None,
        steps: int,
        pools: tuple[str, ...],
    ) -> None:
        repeats = again and number % 3 == 0 and self.sent
        if not repeats:
            self.sent += 1
        name = f"r-{number % self.sent if repeats else self.sent}"
        fields = {"tenant": tenant, "tier": tier, "width": side, "height": side, "model": model, "steps": steps, "pools": pools}
        deadline_at = None if deadline is None else self.desk.now + deadline
        self.watch(lambda: self.desk.submit(name, service_class, deadline_at=deadline_at, **fields))

    @rule(
        tenant=st.sampled_from(("a", "b", "c")),
        tier=st.sampled_from(Tier),
        service_class=st.sampled_from(ServiceClass),
        side=st.sampled_from((32, 64)),
        steps=st.sampled_from((4, 8)),
        count=st.integers(4, 12),
    )
    def flood(self, tenant: str, tier: Tier, service_class: ServiceClass, side: int, steps: int, count: int) -> None:
        for _ in range(count):
            self.submit(False, 0, tenant, tier, service_class, side, None, None, steps, ())

    @rule(worker=st.sampled_from(tuple(WORKERS)), rounds=st.integers(4, 20))
    def work(self, worker: str, rounds: int) -> None:
        """Micro-batch after micro-batch, each in the time that was predicted."""
        machine = self.machines[worker]
        for lease in iter(lambda: next(iter(machine.held.values()), None), None):
            del machine.held[lease.lease_id]
            machine.heard_at = self.desk.now
            for task in lease.tasks:
                entry = self.desk.scheduler.entries().get(task.request_id)
                seconds = 1.0 if entry is None else entry.predicted_s
                usage = Usage(gpu_seconds=seconds, render_s=seconds, steps=task.steps)
                self.watch(lambda lease=lease, task=task, usage=usage: self.desk.complete(lease, task.request_id, usage=usage))
            rounds -= 1
            if not rounds:
                return

    @rule(worker=st.sampled_from(tuple(WORKERS)), slots=st.integers(1, 3), max_batch=st.integers(1, 3))
    def start_worker(self, worker: str, slots: int, max_batch: int) -> None:
        old = self.machines[worker]
        machine = self.machines[worker] = Machine(old.incarnation + 1, slots, max_batch, pool=old.pool, heard_at=self.desk.now)
        self.watch(lambda: self.desk.hello(worker, machine.name, pool=machine.pool, slots=slots, max_batch=max_batch))

    @rule(worker=st.sampled_from(tuple(WORKERS)), slots=st.integers(0, 3), loses=st.booleans())
    def heartbeat(self, worker: str, slots: int, loses: bool) -> None:
        machine = self.machines[worker]
        if loses and machine.held:
            machine.held.pop(next(iter(machine.held)))
        machine.slots, machine.heard_at = slots, self.desk.now
        held = tuple(machine.held)
        self.watch(lambda: self.desk.credit(worker, machine.name, pool=machine.pool, held=held, slots=slots, max_batch=machine.max_batch))

    @precondition(lambda self: self.given)
    @rule(number=numbers, outcome=st.sampled_from(("complete", "complete", "fail", "give up", "start", "progress")), whole=st.booleans())
    def report(self, number: int, outcome: str, whole: bool) -> None:
        """Of any lease that was ever given, however stale."""
        recent = self.given[-12:]
        lease = recent[number % len(recent)]
        request_id = lease.tasks[number % len(lease.tasks)].request_id
        reports = {
            "complete": lambda: self.desk.complete(lease, request_id),
            "fail": lambda: self.desk.fail(lease, None if whole else request_id),
            "give up": lambda: self.desk.fail(lease, request_id, retryable=False),
            "start": lambda: self.desk.started(lease),
            "progress": lambda: self.desk.progress(lease, number % 4),
        }
        machine = self.machines[lease.worker_id]
        if lease.incarnation == machine.name:
            machine.heard_at = self.desk.now
        self.watch(reports[outcome])
        if outcome in ("complete", "fail", "give up"):
            machine.held.pop(lease.lease_id, None)

    @rule(worker=st.sampled_from(tuple(WORKERS)))
    def drain(self, worker: str) -> None:
        machine = self.machines[worker]
        machine.slots, machine.held = 0, {}
        self.watch(lambda: self.desk.goodbye(worker, machine.name, pool=machine.pool))

    @precondition(lambda self: self.sent)
    @rule(number=numbers, tenant=st.sampled_from(("a", "b", "c")))
    def cancel(self, number: int, tenant: str) -> None:
        self.watch(lambda: self.desk.cancel(f"r-{1 + number % (self.sent + 1)}", tenant))

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0, 31.0, -2.0, -60.0)))
    def wait(self, seconds: float) -> None:
        """Less than nothing where somebody sets the machine's clock back."""
        self.watch(lambda: self.desk.tick(seconds))

    @rule(
        name=st.sampled_from(("emoji", "later")), serving=st.booleans(), version=st.sampled_from(("1", "2")), steps=st.sampled_from((2, 4))
    )
    def move_route(self, name: str, serving: bool, version: str, steps: int) -> None:
        self.watch(lambda: self.desk.control(route(name, version, serving=serving, steps=steps)))

    @rule(
        bound=st.sampled_from((5.0, 1e6)),
        batch_s=st.sampled_from((1.5, 20.0)),
        linger_s=st.sampled_from((0.0, 0.5)),
        objective=st.sampled_from((1.0, 1e6)),
        floors=st.sampled_from(((0.5, 0.15, 0.05), (0.1, 0.2, 0.6))),
        rules=st.sampled_from(({}, {"spot": PoolRule(price=0.1, max_pixels=1024)}, {"standard": PoolRule(tiers=(Tier.PRO,))})),
    )
    def change_policy(
        self, bound: float, batch_s: float, linger_s: float, objective: float, floors: tuple[float, ...], rules: dict[str, PoolRule]
    ) -> None:
        changes: dict[str, Any] = {"batch_s": batch_s, "linger_s": linger_s, "pools": rules}
        changes |= {"lane_bound_s": dict.fromkeys(Lane, bound), "lane_floor": dict(zip(Lane, floors, strict=True))}
        self.watch(lambda: self.desk.control(policy(**changes, lane_objective_s=dict.fromkeys(Lane, objective))))

    @rule(tenant=st.sampled_from(("a", "b", "c")), running=st.sampled_from((1, 2, 100)), rate=st.sampled_from((0.5, 1000.0)))
    def change_quota(self, tenant: str, running: int, rate: float) -> None:
        quota = Quota(rate=rate, burst_s=10 * rate, max_queued=20, max_running=running, weight=1.0 + running % 3)
        self.watch(lambda: self.desk.control(TenantQuota(tenant=tenant, at=self.desk.now, quota=quota)))

    @rule()
    def restart(self) -> None:
        self.watch(self.desk.tick)
        before = self.known()
        self.desk.restart()
        # Waits that moved the shares may not have been written yet; they move them again.
        assert [one for one in self.desk.tick() if not isinstance(one, SharesEvent)] == []
        assert self.known() == before

    def known(self) -> dict[str, Any]:
        """What the scheduler knows, without cancellations that are over: one that runs forgets them within ten seconds, one that begins at
        once."""
        found = snapshot(self.desk.scheduler)
        oldest = self.desk.now - self.desk.scheduler._cell.tuning.early_cancel_s
        return {**found, "cancels": {name: one for name, one in found["cancels"].items() if one[1] > oldest}}

    def watch(self, act: object) -> None:
        """Do it and check what it decided: each open request goes on or ends in one event, and nothing else ends."""
        before = set(self.desk.scheduler.entries())
        self.floors.begin(self.desk.scheduler)
        decided: list[Decision] = act()  # type: ignore[operator]
        after = set(self.desk.scheduler.entries())
        ends = Counter(event.request_id for event in events(decided) if event.state.terminal)
        assert all(count == 1 for count in ends.values()), ends
        assert not set(ends) & after
        assert before - after <= set(ends)
        for lease in leases(decided):
            self.check_lease(lease)
        self.floors.settle(self.desk.scheduler, leases(decided))

    def check_lease(self, lease: Lease) -> None:
        machine = self.machines[lease.worker_id]
        shapes = {(task.width, task.height, task.steps, task.guided) for task in lease.tasks}
        key = lease.batch_key
        assert shapes == {(key.width, key.height, key.steps, key.guided)}
        assert key.model == lease.model.key
        assert len(lease.tasks) <= machine.max_batch
        assert lease.incarnation == machine.name
        assert lease.pool == machine.pool
        entries = self.desk.scheduler.entries()
        assert all(lease.pool in entries[task.request_id].pools for task in lease.tasks if task.request_id in entries)
        assert self.desk.now - machine.heard_at <= 3.0
        assert lease.lease_id not in {given.lease_id for given in self.given}
        self.given.append(lease)
        machine.held[lease.lease_id] = lease
        known = [one for one in self.desk.scheduler.leases().values() if one.worker_id == lease.worker_id]
        assert len(known) <= machine.slots

    @invariant()
    def every_request_is_in_one_place(self) -> None:
        if not hasattr(self, "desk"):
            return
        cell = self.desk.scheduler._cell
        queued = {entry.id for lane in Lane for entry in cell.lanes[lane].entries()}
        places = {
            Phase.QUEUED: queued,
            Phase.LEASED: {name for lease in cell.leases.values() for name in lease.entries},
            Phase.PARKED: {name for parked in cell.parked.values() for name in parked},
            Phase.HELD: set(cell.held),
            Phase.DELAYED: {name for name, entry in cell.entries.items() if entry.phase is Phase.DELAYED},
        }
        for phase, names in places.items():
            assert names == {name for name, entry in cell.entries.items() if entry.phase is phase}, phase

    @invariant()
    def the_store_holds_what_is_open_and_nothing_else(self) -> None:
        if not hasattr(self, "desk"):
            return
        cell, store = self.desk.scheduler._cell, self.desk.store
        assert {name for name, _ in store.items(Table.REQUESTS)} == set(cell.entries)
        assert {name for name, _ in store.items(Table.LEASES)} == set(cell.leases)
        assert {name for name, _ in store.items(Table.ATTEMPTS)} <= set(cell.entries)
        assert set(cell.entries) <= {line.split("\t")[0] for _, text in store.items(Table.IDS) for line in text.splitlines()}

    @invariant()
    def accounts_are_of_what_is_open(self) -> None:
        if not hasattr(self, "desk"):
            return
        cell = self.desk.scheduler._cell
        uses = cell.quotas._uses
        opened = Counter(entry.tenant for entry in cell.entries.values())
        running = Counter(entry.tenant for entry in cell.entries.values() if entry.phase is Phase.LEASED)
        assert {name: use.open for name, use in uses.items() if use.open} == opened
        assert {name: use.running for name, use in uses.items() if use.running} == running
        capped = {name for name in opened if cell.quotas.is_capped(name)}
        assert capped == cell.lanes._paused & set(opened)
        assert sum(cell.lanes.floors.values()) < 1

    @invariant()
    def buffers_are_bounded_and_sums_right(self) -> None:
        if not hasattr(self, "desk"):
            return
        cell = self.desk.scheduler._cell
        assert len(cell.timers) <= 2 * len(cell.entries) + len(cell.leases)
        assert len(cell.timers._heap) <= 4 * len(cell.timers) + 128
        for lane in Lane:
            waiting = sum(entry.predicted_s for entry in cell.lanes[lane].entries())
            assert abs(cell.lanes[lane].queued_s - waiting) < 1e-6

    def teardown(self) -> None:
        """With all models in service and one good worker everything ends, within a bound."""
        if not hasattr(self, "desk"):
            return
        desk = self.desk
        for name in ("emoji", "later"):
            self.watch(lambda name=name: desk.control(route(name)))
        for closer, pool in CLOSERS.items():
            self.machines[closer] = Machine(1, 2, 3, pool=pool, heard_at=desk.now)
            self.watch(lambda closer=closer, pool=pool: desk.hello(closer, "i-1", pool=pool, slots=2, max_batch=3))
        answered = 0
        for _ in range(300):
            if not desk.scheduler.entries():
                return
            while answered < len(self.given):
                lease = self.given[answered]
                answered += 1
                for task in lease.tasks if lease.worker_id in CLOSERS else ():
                    self.watch(lambda lease=lease, task=task: desk.complete(lease, task.request_id))
            self.watch(lambda: desk.tick(1.0))
            for closer, pool in CLOSERS.items():
                self.machines[closer].heard_at = desk.now
                self.watch(lambda closer=closer, pool=pool: desk.credit(closer, "i-1", pool=pool, slots=2, max_batch=3))
        raise AssertionError(f"after 300 s still open: {desk.scheduler.entries()}")


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
