"""From what is needed at a moment to what a pool becomes: up at once, down slowly, to zero when idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, inf

from include.autoscale.rules import PoolScaling
from include.autoscale.sizing import NEGLIGIBLE, TOLERANCE, Need, PoolNow, Snapshot, share_out

REFUSED_AFTER_STARTS = 3.0  #: a worker that is starting for so many times its start-up time is taken not to come


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a pool shall become, and why."""

    pool: str
    at: float  #: seconds since 1970
    before: int  #: workers running or starting
    after: int
    reason: str
    now: PoolNow
    waiting_s: float  #: device seconds of the work that is counted to this pool
    rate: float  #: device seconds a second that arrive for it

    @property
    def changes(self) -> bool:
        return self.after != self.before


@dataclass(slots=True)
class _Memory:
    """What must be remembered of a pool between two decisions."""

    wanted: deque[tuple[float, int]] = field(default_factory=deque)  #: when and how many, falling, so that the first is the most
    peak: int = 0  #: the most that was wanted since the burst began that goes on
    changed_at: float = -inf
    waits_since: float | None = None  #: how long workers have been starting without one coming
    running: int = 0
    asked_at: deque[float] = field(default_factory=deque)  #: for each worker that is starting, the first one first

    def coming_in_s(self, now: PoolNow, start_s: float, at: float) -> tuple[float, ...]:
        """When those that are starting will be there; of some that were asked for before this memory began nothing is known."""
        while len(self.asked_at) > now.starting:
            self.asked_at.popleft()  # the one asked for first is the one that came
        return tuple(min(start_s, max(0.0, asked_at + start_s - at)) for asked_at in self.asked_at)

    def ask(self, before: int, after: int, at: float) -> None:
        """Workers are asked for, or those asked for last are taken back."""
        self.asked_at.extend([at] * (after - before))
        for _ in range(min(before - after, len(self.asked_at))):
            self.asked_at.pop()

    def most_wanted(self, count: int, now: float, window_s: float) -> int:
        """The most that was wanted in the window, this count included."""
        while self.wanted and self.wanted[-1][1] <= count:
            self.wanted.pop()
        self.wanted.append((now, count))
        while self.wanted[0][0] < now - window_s:
            self.wanted.popleft()
        return self.wanted[0][1]


class Sizer:
    """Decides for every pool at once.

    - **Up** at once, by as many as are needed; those that are starting count.
    - **Down** to the most that was wanted at any time of the last ``down_after_s``, which is how the Kubernetes horizontal pod autoscaler
      keeps from flapping; at most by half at a time, at most every ``down_every_s``, never below what is in use or holds a lease.
    - **To zero** where ``min_workers`` is 0 and there was no work for ``idle_s``; **from zero** with the first request that waits.
    - A pool whose workers don't come (spot capacity that is not to be had) goes on asking, and its work is counted to the next pool.

    A new one holds every pool at what it finds for ``down_after_s``, so to start it anew takes nobody away.
    """

    def __init__(self) -> None:
        self._memory: dict[str, _Memory] = {}

    def decide(self, snapshot: Snapshot, rules: Mapping[str, PoolScaling]) -> list[Decision]:
        """One decision a pool of the rules, in their order."""
        pools = {pool: snapshot.pools.get(pool, PoolNow()) for pool in rules}
        refused = {pool for pool, rule in rules.items() if self._is_refused(pool, pools[pool], rule, snapshot.at)}
        pools = {pool: self._with_coming(pool, now, rules[pool], snapshot.at) for pool, now in pools.items()}
        snapshot = replace(snapshot, pools=pools)
        needs, lasting = _needs(snapshot, rules, refused), _needs(snapshot.lasting(), rules, refused)
        return [self._decide(pool, needs[pool], lasting[pool], pools[pool], rule, snapshot.at) for pool, rule in rules.items()]

    def _is_refused(self, pool: str, now: PoolNow, rule: PoolScaling, at: float) -> bool:
        """Whether workers were asked for and don't come."""
        memory = self._memory.setdefault(pool, _Memory(wanted=deque([(at, now.total)]), running=now.running))
        if not now.starting or now.running > memory.running:
            memory.waits_since = None
        elif memory.waits_since is None:
            memory.waits_since = at
        memory.running = now.running
        return memory.waits_since is not None and at - memory.waits_since > REFUSED_AFTER_STARTS * rule.start_s

    def _with_coming(self, pool: str, now: PoolNow, rule: PoolScaling, at: float) -> PoolNow:
        return replace(now, coming_in_s=self._memory[pool].coming_in_s(now, rule.start_s, at))

    def _decide(self, pool: str, need: Need, lasting: Need, now: PoolNow, rule: PoolScaling, at: float) -> Decision:
        memory = self._memory[pool]
        wanted, why = want(need, now, rule)
        memory.peak = max(memory.peak, wanted) if any(one.burst for one in need.demands) else 0
        most = max(memory.peak, memory.most_wanted(want(lasting, now, rule)[0], at, rule.down_after_s))
        if wanted >= now.total:
            after = wanted
        else:
            after, why = self._down(memory, wanted, most, now, rule, at, why)
        if after != now.total:
            memory.changed_at = at
            memory.ask(now.total, after, at)
        return Decision(
            pool=pool,
            at=at,
            before=now.total,
            after=after,
            reason=why,
            now=now,
            waiting_s=sum(one.waiting_s for one in need.demands),
            rate=sum(one.rate + one.burst for one in need.demands),
        )

    def _down(self, memory: _Memory, wanted: int, most: int, now: PoolNow, rule: PoolScaling, at: float, why: str) -> tuple[int, str]:
        """A step towards what is wanted, or what keeps it from one."""
        lowest = wanted if wanted == 0 else min(most, now.total, rule.max_workers)
        if now.running <= lowest < now.total:
            return lowest, f"{wanted} needed: {why}; those that are starting need not come"
        if lowest == now.total:
            return now.total, f"kept: {most} were needed within the last {rule.down_after_s:g} s"
        if at - memory.changed_at < rule.down_every_s:
            return now.total, f"kept: changed {at - memory.changed_at:.0f} s ago; {wanted} needed"
        after = max(lowest, now.total // 2, now.busy)
        if after >= now.total:
            return now.total, f"kept: {now.busy} hold a lease; {wanted} needed"
        return after, f"{wanted} needed: {why}"


def _needs(snapshot: Snapshot, rules: Mapping[str, PoolScaling], refused: set[str]) -> dict[str, Need]:
    most = {pool: rule.max_workers for pool, rule in rules.items()}
    needs = share_out(snapshot, rules, most)
    if not refused:
        return needs
    to_be_had = {pool: min(most[pool], snapshot.pools[pool].running) if pool in refused else most[pool] for pool in rules}
    # What the others take over is asked of a refused pool all the same: as soon as it has room, the work is its own again.
    return {**share_out(snapshot, rules, to_be_had), **{pool: needs[pool] for pool in refused}}


def want(need: Need, now: PoolNow, rule: PoolScaling) -> tuple[int, str]:
    """Workers that the pool should have now, within its limits, and why."""
    count, why = need.whole, need.why
    in_use = _in_use(now, rule)
    if in_use > count:
        count, why = in_use, f"{now.running} render {100 * (now.utilisation or 0):.0f} % of their time"
    if count == 0 and now.in_flight_s <= NEGLIGIBLE and now.idle_s >= rule.idle_s:
        why = f"no work for {rule.idle_s:g} s" if rule.min_workers == 0 else why
    elif count == 0 and now.total > 0:
        count, why = 1, f"no work, for less than {rule.idle_s:g} s"
    if count > rule.max_workers:
        return rule.max_workers, f"max_workers, where {count} are needed: {why}"
    if count < rule.min_workers:
        return rule.min_workers, f"min_workers: {why}"
    return count, why


def _in_use(now: PoolNow, rule: PoolScaling) -> int:
    """Running workers that the measured utilisation asks to keep, whatever was predicted. It never asks for more: full workers may well
    be on time, and how late work is the backlog tells."""
    if now.utilisation is None or not now.in_flight_s:
        return 0
    return min(now.running, ceil(now.running * now.utilisation / rule.target - TOLERANCE))
