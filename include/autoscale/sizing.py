"""How many workers a pool needs: what arrives, what waits against its objective, and what is in use. No clock, no I/O.

Sources of the ideas, each where it is used: DS2 (Kalavri et al., "Three steps is all you need", OSDI 2018), which sizes by the true rate of
work rather than by thresholds; Knative's pod autoscaler, which scales by demand and to zero and back; the Kubernetes horizontal pod
autoscaler, for the tolerance and for what :mod:`include.autoscale.sizer` does about scaling down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from include.autoscale.rules import PoolScaling
from include.contracts.events import Lane

LEAST_DRAIN_S = 5.0  #: seconds that a worker started for a backlog should have for it at least
TOLERANCE = 0.1  #: workers; so little more than a whole number starts none
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Work of one lane that the same pools may serve, in predicted device seconds."""

    lane: Lane
    pools: frozenset[str] = frozenset()  #: empty means every pool
    waiting_s: float = 0.0
    oldest_s: float = 0.0  #: how long the oldest that waits has waited, in seconds
    rate: float = 0.0  #: arriving in the long run, in device seconds a second
    burst: float = 0.0  #: arriving beyond that just now, as far as it is reason to start workers
    lasting: float = 0.0  #: the part of the burst that is taken to stay
    surge_s: float = 0.0  #: device seconds that the burst is still to bring

    def part(self, share: float) -> Demand:
        scaled = {name: getattr(self, name) * share for name in ("waiting_s", "rate", "burst", "lasting", "surge_s")}
        return replace(self, **scaled)

    @property
    def is_nothing(self) -> bool:
        return self.waiting_s < NEGLIGIBLE and self.rate < NEGLIGIBLE


@dataclass(frozen=True, kw_only=True)
class PoolNow:
    """A pool as it is."""

    running: int = 0  #: workers that take work
    starting: int = 0  #: asked for, not rendering yet
    coming_in_s: tuple[float, ...] = ()  #: when those will render, in seconds from now, as far as it is known; else a whole start from now
    draining: int = 0  #: on their way out
    busy: int = 0  #: running ones that hold a lease
    utilisation: float | None = None  #: mean share of their time that the running ones rendered lately
    in_flight_s: float = 0.0  #: predicted device seconds left of what they hold
    idle_s: float = inf  #: seconds since it last had work
    idle_workers: tuple[str, ...] = ()  #: ids of running ones without a lease

    @property
    def total(self) -> int:
        return self.running + self.starting


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one decision is made from."""

    at: float  #: seconds since 1970
    demands: tuple[Demand, ...]
    pools: Mapping[str, PoolNow]
    objectives: Mapping[Lane, float]  #: seconds that a request of the lane should wait at most

    def lasting(self) -> Snapshot:
        """Without what may be over in a moment."""
        return replace(self, demands=tuple(replace(one, burst=one.lasting) for one in self.demands))


@dataclass(frozen=True, kw_only=True)
class Need:
    """Workers, and the words for why so many."""

    workers: float = 0.0
    why: str = "nothing arrives and nothing waits"
    demands: tuple[Demand, ...] = field(default=(), repr=False)

    @property
    def whole(self) -> int:
        """At least one where something waits; what is left of a rate that fades needs none by itself."""
        least = 1 if any(one.waiting_s > NEGLIGIBLE for one in self.demands) else 0
        return max(least, ceil(self.workers - TOLERANCE))


def needed(demands: Sequence[Demand], now: PoolNow, rule: PoolScaling, objectives: Mapping[Lane, float]) -> Need:
    """The larger of what keeps up with arrivals at the target utilisation, and what clears each lane's backlog within its objective."""
    rate = sum(one.rate + one.burst for one in demands)
    found = Need(workers=rate / rule.target, why=f"{rate:.2f} device seconds arrive a second, for workers at {100 * rule.target:.0f} %")
    if rate < NEGLIGIBLE:
        found = Need()
    for lane in Lane:
        backlog = _for_backlog(lane, demands, now, rule, objectives[lane])
        if backlog is not None and backlog.workers > found.workers:
            found = backlog
    return replace(found, demands=tuple(demands))


def _for_backlog(lane: Lane, demands: Sequence[Demand], now: PoolNow, rule: PoolScaling, objective_s: float) -> Need | None:
    """Workers that clear a lane, and those served before it, while more arrives; None where nothing waits in it.

    The time to clear it ends with the objective of its oldest, but a worker gets at least as long as its start takes: to start one for less
    would cost more than it brings.
    """
    ahead = [one for one in demands if list(Lane).index(one.lane) <= list(Lane).index(lane)]
    oldest_s = max((one.oldest_s for one in ahead if one.lane is lane and one.waiting_s > NEGLIGIBLE), default=None)
    if oldest_s is None:
        return None
    waiting_s = sum(one.waiting_s for one in ahead)
    within_s = max(objective_s - oldest_s, rule.start_s + max(rule.start_s, LEAST_DRAIN_S))
    work_s = now.in_flight_s + waiting_s + sum(within_s * one.rate + one.surge_s for one in ahead)
    words = f"{waiting_s:.1f} device seconds wait up to lane {lane}, the oldest for {oldest_s:.1f} of {objective_s:g} s"
    return Need(workers=_workers_for(work_s, within_s, now, rule), why=f"{words}; to be gone in {within_s:.0f} s")


def _workers_for(work_s: float, within_s: float, now: PoolNow, rule: PoolScaling) -> float:
    """So many do the work in time: those that run serve from now on, those that are starting once they come, others after a whole start."""
    if work_s <= now.running * within_s:
        return work_s / within_s
    workers, left_s = float(now.running), work_s - now.running * within_s
    unknown = now.starting - len(now.coming_in_s)
    for coming_in_s in sorted((*now.coming_in_s, *[rule.start_s] * unknown)):
        brings_s = within_s - coming_in_s
        if left_s <= brings_s:
            return workers + left_s / brings_s
        workers, left_s = workers + 1, left_s - brings_s
    return workers + left_s / (within_s - rule.start_s)


def share_out(snapshot: Snapshot, rules: Mapping[str, PoolScaling], limits: Mapping[str, int]) -> dict[str, Need]:
    """What each pool needs, where work that several may serve goes first to workers that are there anyway, then to the cheapest pool.

    :param limits: workers that each pool can have at most at the moment
    """
    order = sorted(rules, key=lambda pool: (rules[pool].cost_per_h, pool))
    rest = [replace(one, pools=(one.pools or frozenset(rules)) & frozenset(rules)) for one in snapshot.demands]
    taken: dict[str, Need] = {pool: Need() for pool in order}
    stages: tuple[Callable[[str], int], ...] = (lambda pool: min(rules[pool].min_workers, limits[pool]), lambda pool: limits[pool])
    for at_most in stages:
        for pool in order:
            offered = [*taken[pool].demands, *(one for one in rest if pool in one.pools)]
            others = [one for one in rest if pool not in one.pools]
            taken[pool], left = _take(pool, offered, at_most(pool), snapshot, rules[pool])
            rest = others + left
    return {pool: _with_rest(pool, taken[pool], rest, snapshot, rules[pool]) for pool in order}


def _take(pool: str, offered: list[Demand], at_most: int, snapshot: Snapshot, rule: PoolScaling) -> tuple[Need, list[Demand]]:
    """As much of what is offered as so many workers serve, what only this pool may serve first; and what is left."""
    now = snapshot.pools.get(pool, PoolNow())
    everything = needed(offered, now, rule, snapshot.objectives)
    if everything.workers <= at_most + TOLERANCE:
        return everything, []
    own = [one for one in offered if one.pools == {pool}]
    own_need = needed(own, now, rule, snapshot.objectives).workers
    room = min(1.0, max(0.0, at_most - own_need) / max(NEGLIGIBLE, everything.workers - own_need))
    flexible = [one for one in offered if one.pools != {pool}]
    own_room = 1.0 if own_need <= at_most else at_most / own_need
    kept = [*(one.part(own_room) for one in own), *(one.part(room) for one in flexible)]
    left = [*(one.part(1 - own_room) for one in own), *(one.part(1 - room) for one in flexible)]
    return needed(_something(kept), now, rule, snapshot.objectives), _something(left)


def _with_rest(pool: str, need: Need, rest: list[Demand], snapshot: Snapshot, rule: PoolScaling) -> Need:
    """What no pool has room for stays a need of each that may serve it, so that the words tell of it; limits cut the number."""
    mine = [one for one in rest if pool in one.pools]
    return needed([*need.demands, *mine], snapshot.pools.get(pool, PoolNow()), rule, snapshot.objectives) if mine else need


def _something(demands: list[Demand]) -> list[Demand]:
    return [one for one in demands if not one.is_nothing]
