"""The loop: look, decide, act, tell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from include.autoscale.demand import DemandTracker
from include.autoscale.drivers.base import DriverError, PoolDriver
from include.autoscale.rules import PoolScaling, ScalingRules
from include.autoscale.sizer import Decision, Sizer
from include.autoscale.sizing import PoolNow
from include.client.errors import BrokerUnavailableError
from include.contracts.events import Lane, ScaleEvent

log = logging.getLogger(__name__)

MAX_REASON = 500


class Rules(Protocol):
    """Where the rules come from; a :class:`include.autoscale.rules.RulesFile`."""

    def refresh(self) -> ScalingRules: ...


class Demands(Protocol):
    """What tells of demand; a :class:`include.autoscale.feed.Feed`."""

    @property
    def tracker(self) -> DemandTracker: ...

    @property
    def objectives(self) -> Mapping[Lane, float]: ...

    def catch_up(self) -> None:
        """Raises :class:`BrokerUnavailableError`."""


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Where decisions go."""

    say: Callable[[dict[str, Any]], None]  #: one JSON line
    publish: Callable[[ScaleEvent], None]  #: onto the topic ``events``


class Controller:
    """Sizes the pools of one cell.

    It keeps nothing that must survive: what waits is read again from the topics, what runs is asked of the drivers. Where it can't see
    demand, or a driver does not answer, the pool stays as it is, and that is said once.

    :param dry_run: decide and tell, and change nothing
    """

    def __init__(
        self,
        *,
        cell: str,
        rules: Rules,
        demands: Demands,
        open_driver: Callable[[str, PoolScaling], PoolDriver],
        outlets: Outlets,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cell = cell
        self._rules = rules
        self._demands = demands
        self._open_driver = open_driver
        self._outlets = outlets
        self._dry_run = dry_run
        self._clock = clock
        self._sizer = Sizer()
        self._drivers: dict[str, tuple[PoolScaling, PoolDriver]] = {}
        self._found: dict[str, PoolNow] = {}
        self._troubles: dict[str, str] = {}
        self._told: dict[str, tuple[int, int]] = {}

    def run(self, stop: threading.Event) -> None:
        """Decide every ``every_s`` of the rules until ``stop`` is set."""
        while not stop.is_set():
            self.turn()
            stop.wait(self._rules.refresh().every_s)

    def turn(self) -> list[Decision]:
        """One decision for each pool whose state is known; none where demand can't be seen."""
        rules = self._rules.refresh().pools
        try:
            self._demands.catch_up()
        except BrokerUnavailableError as error:
            self._trouble("kafka", f"every pool stays as it is: {error}")
            return []
        self._well("kafka")
        seen = {pool for pool, rule in rules.items() if self._observe(pool, rule)}
        found = {pool: self._found.get(pool, PoolNow()) for pool in rules}
        snapshot = self._demands.tracker.snapshot(self._clock(), found, self._demands.objectives)
        decisions = [one for one in self._sizer.decide(snapshot, rules) if one.pool in seen]
        for decision in decisions:
            self._carry_out(decision)
        return decisions

    def _observe(self, pool: str, rule: PoolScaling) -> bool:
        """Whether the pool's driver told what runs; what it told last is remembered."""
        try:
            self._found[pool] = self._driver(pool, rule).observe().counts()
        except DriverError as error:
            self._trouble(pool, f"pool {pool} stays as it is: {error}")
            return False
        return True

    def _driver(self, pool: str, rule: PoolScaling) -> PoolDriver:
        known = self._drivers.get(pool)
        if known is None or (known[0].driver, known[0].max_workers) != (rule.driver, rule.max_workers):
            known = self._drivers[pool] = (rule, self._open_driver(pool, rule))
        return known[1]

    def _carry_out(self, decision: Decision) -> None:
        pool = decision.pool
        if not decision.changes:
            self._told.pop(pool, None)
            self._well(pool)
            return
        try:
            if not self._dry_run:
                self._drivers[pool][1].scale_to(decision.after, decision.now.idle_workers)
        except DriverError as error:
            self._trouble(pool, f"pool {pool} can't become {decision.after}: {error}")
            return
        self._well(pool)
        if self._told.get(pool) != (decision.before, decision.after):
            self._told[pool] = (decision.before, decision.after)
            self._tell(decision)

    def _tell(self, decision: Decision) -> None:
        event = event_of(decision, self._cell)
        now = {
            "running": decision.now.running,
            "starting": decision.now.starting,
            "draining": decision.now.draining,
            "busy": decision.now.busy,
        }
        said = event.model_dump(mode="json", exclude_none=True, exclude={"schema_version", "event_id"})
        self._outlets.say({**said, **now, **({"dry_run": True} if self._dry_run else {})})
        if not self._dry_run:
            self._outlets.publish(event)

    def _trouble(self, what: str, words: str) -> None:
        """Say it once, until it is over or another."""
        if self._troubles.get(what) != words:
            self._troubles[what] = words
            self._outlets.say({"kind": "kept", "at": self._clock(), "reason": words})

    def _well(self, what: str) -> None:
        if self._troubles.pop(what, None) is not None:
            self._outlets.say({"kind": "recovered", "at": self._clock(), "reason": f"{what} answers again"})


def event_of(decision: Decision, cell: str) -> ScaleEvent:
    used = decision.now.utilisation
    return ScaleEvent(
        event_id=f"{cell}:scale:{decision.pool}:{decision.at!r}",
        cell=cell,
        pool=decision.pool,
        at=decision.at,
        before=decision.before,
        after=decision.after,
        reason=decision.reason[:MAX_REASON],
        waiting_s=round(decision.waiting_s, 3),
        rate=round(decision.rate, 4),
        utilisation=None if used is None else round(used, 3),
    )
