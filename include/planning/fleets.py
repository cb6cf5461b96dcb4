"""A pool that the controller's own code sizes, against a fixed one: the same arrivals, the same scheduler, a fake clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from include.autoscale.demand import DemandTracker
from include.autoscale.drivers.memory import MemoryDriver
from include.autoscale.rules import PoolScaling, ScalingRules
from include.autoscale.sizer import Sizer
from include.simulation.engine import Simulation, Watch
from include.simulation.ledger import Columns
from include.simulation.measures import Measures, measure
from include.simulation.ours import OwnPolicy
from include.simulation.policy import Arrival, WorkerSpec
from include.simulation.scenario import POOL, Scenario


class AutoscaleError(ValueError):
    """Rules that can't be tried here; the text says what they need."""


@dataclass(frozen=True, kw_only=True)
class FleetSize:
    """The workers from a moment on."""

    at: float  #: seconds since 1970
    running: int
    paid: int  #: running, starting and draining


@dataclass(frozen=True, kw_only=True)
class FleetResult:
    """One run and the fleet it had."""

    name: str
    run: Columns
    measures: Measures
    sizes: tuple[FleetSize, ...]  #: in order of time; each holds until the next
    changes: int  #: decisions that asked for another number of workers
    cost_per_h: float  #: of one worker

    @property
    def worker_hours(self) -> float:
        """Paid for: from the moment a worker was asked for until it was gone."""
        ends = [*(size.at for size in self.sizes[1:]), self.run.end]
        return sum(size.paid * (end - size.at) for size, end in zip(self.sizes, ends, strict=True)) / 3600

    @property
    def cost(self) -> float:
        return self.worker_hours * self.cost_per_h

    @property
    def most(self) -> int:
        return max(size.paid for size in self.sizes)

    @property
    def changes_per_h(self) -> float:
        return self.changes * 3600 / (self.run.end - self.sizes[0].at)


class ScaledFleet:
    """The controller in the simulation: workers join once they have started and leave by draining.

    It begins with ``min_workers``. A worker that drains finishes what it holds; a real one hands back what it has not begun, which is
    never slower.
    """

    def __init__(self, scenario: Scenario, rules: ScalingRules, seed: int = 0, watch: Watch | None = None) -> None:
        """Raises :class:`AutoscaleError` where the rules leave out the scenario's pool."""
        if POOL not in rules.pools:
            raise AutoscaleError(f"pools: the simulator has the pool {POOL}; add rules for it")
        self._scenario, self._rules, self._watch = scenario, rules, watch
        self._rule: PoolScaling = rules.pools[POOL]
        self._sizer, self._tracker = Sizer(), DemandTracker(scenario.start)
        self._driver = MemoryDriver(POOL, self._rule.min_workers)
        self._decides_at = scenario.start
        self._known = set(self._driver.observe().running)
        self._leaving: set[str] = set()
        policy = OwnPolicy(scenario, listener=self._tracker)
        self._simulation = Simulation(
            scenario, policy, seed=seed, watch=self._tick, fleet=[self._spec(name) for name in sorted(self._known)]
        )
        self.sizes: list[FleetSize] = []
        self.changes = 0
        self._book(scenario.start)

    def run(self, arrivals: Iterable[Arrival], seconds: float) -> Columns:
        return self._simulation.run(arrivals, seconds)

    def _spec(self, name: str) -> WorkerSpec:
        scenario = self._scenario
        warm = tuple(route.champion.key for route in scenario.routes if route.champion is not None)
        return WorkerSpec(id=name, pool=POOL, slots=scenario.slots, max_batch=scenario.max_batch, warm=warm)

    def _tick(self, now: float) -> None:
        if self._watch is not None:
            self._watch(now)
        if now < self._decides_at:
            return
        self._decides_at = now + self._rules.every_s
        snapshot = self._tracker.snapshot(now, {POOL: self._driver.observe().counts()}, self._scenario.policy.lane_objective_s)
        (decision,) = self._sizer.decide(snapshot, {POOL: self._rule})
        if decision.changes:
            self.changes += 1
            self._driver.scale_to(decision.after, decision.now.idle_workers)
            self._carry_out()
            self._book(now)

    def _carry_out(self) -> None:
        """Start whoever is new, drain whoever is to go."""
        state = self._driver.observe()
        for name in set(state.starting) - self._known:
            self._known.add(name)
            self._simulation.plan(self._rule.start_s, self._started, name)
        for name in set(state.draining) - self._leaving:
            self._leaving.add(name)
            self._simulation.drain(name, self._gone)

    def _started(self, name: str) -> None:
        if name in self._driver.observe().starting:  # else it was taken back meanwhile
            self._driver.started(name)
            self._simulation.add(self._spec(name))
            self._book(self._simulation.now)

    def _gone(self, name: str) -> None:
        self._driver.gone(name)
        self._book(self._simulation.now)

    def _book(self, now: float) -> None:
        found = self._driver.observe().counts()
        self.sizes.append(FleetSize(at=now, running=found.running, paid=found.total + found.draining))


def autoscaled(
    scenario: Scenario,
    rules: ScalingRules,
    arrivals: Iterable[Arrival],
    seconds: float,
    *,
    warm_up_s: float,
    seed: int,
    watch: Watch | None = None,
) -> FleetResult:
    """Raises :class:`AutoscaleError` where the rules leave out the scenario's pool."""
    fleet = ScaledFleet(scenario, rules, seed, watch)
    run = fleet.run(arrivals, seconds)
    return FleetResult(
        name="autoscaled",
        run=run,
        measures=measure(run, scenario, warm_up_s=warm_up_s),
        sizes=tuple(fleet.sizes),
        changes=fleet.changes,
        cost_per_h=rules.pools[POOL].cost_per_h,
    )


def fixed(
    scenario: Scenario,
    rules: ScalingRules,
    arrivals: Iterable[Arrival],
    seconds: float,
    *,
    warm_up_s: float,
    seed: int,
    watch: Watch | None = None,
) -> FleetResult:
    """The scenario's workers from the start to the end."""
    run = Simulation(scenario, OwnPolicy(scenario), seed=seed, watch=watch).run(arrivals, seconds)
    return FleetResult(
        name=f"{scenario.workers} workers",
        run=run,
        measures=measure(run, scenario, warm_up_s=warm_up_s),
        sizes=(FleetSize(at=scenario.start, running=scenario.workers, paid=scenario.workers),),
        changes=0,
        cost_per_h=rules.pools[POOL].cost_per_h if POOL in rules.pools else 1.0,
    )


def compare_fleets(
    scenario: Scenario,
    rules: ScalingRules,
    arrivals: Callable[[], Iterable[Arrival]],
    *,
    seconds: float,
    warm_up_s: float,
    seed: int = 0,
    watch: Callable[[str], Watch] | None = None,
) -> list[FleetResult]:
    """The autoscaled pool and the fixed one. Raises :class:`AutoscaleError`."""
    runs = {"autoscaled": autoscaled, f"{scenario.workers} workers": fixed}
    return [
        one(scenario, rules, arrivals(), seconds, warm_up_s=warm_up_s, seed=seed, watch=watch(name) if watch else None)
        for name, one in runs.items()
    ]
