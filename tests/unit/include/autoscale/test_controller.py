from __future__ import annotations

from typing import Any

import pytest

from include.autoscale.controller import Controller, Outlets
from include.autoscale.demand import DemandTracker
from include.autoscale.drivers.base import DriverError, PoolState
from include.autoscale.drivers.memory import MemoryDriver
from include.autoscale.rules import ScalingRules
from include.client.errors import BrokerUnavailableError
from include.contracts.events import ScaleEvent, State
from tests.unit.include.autoscale.builders import NOW, OBJECTIVES, credit, event, queued, rule


class Topics:
    """What a feed tells, without topics."""

    def __init__(self) -> None:
        self.tracker, self.objectives, self.away = DemandTracker(NOW), OBJECTIVES, ""

    def catch_up(self) -> None:
        if self.away:
            raise BrokerUnavailableError(self.away)


class Desk:
    """A controller of one pool in memory, its topics, its rules and what it said."""

    def __init__(self, dry_run: bool = False, **changes: Any) -> None:
        self.now = NOW
        self.topics, self.driver = Topics(), MemoryDriver("std")
        self.rules = ScalingRules(pools={"std": rule(**{"min_workers": 0, "idle_s": 60.0, **changes})})
        self.said: list[dict[str, Any]] = []
        self.events: list[ScaleEvent] = []
        self.dry_run = dry_run
        self.controller = self.restart()

    def restart(self) -> Controller:
        self.controller = Controller(
            cell="cell-0",
            rules=self,
            demands=self.topics,
            open_driver=lambda pool, scaling: self.driver,
            outlets=Outlets(say=self.said.append, publish=self.events.append),
            dry_run=self.dry_run,
            clock=lambda: self.now,
        )
        return self.controller

    def refresh(self) -> ScalingRules:
        return self.rules

    def size(self) -> int:
        return self.driver.observe().counts().total

    def turn(self, seconds: float = 2.0) -> int:
        self.now += seconds
        for name in self.driver.observe().running:
            self.topics.tracker.take_worker(credit(name, at=self.now))
        self.controller.turn()
        return self.size()

    def start_all(self) -> None:
        for name in self.driver.observe().starting:
            self.driver.started(name)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_first_request_wakes_an_empty_pool_and_silence_empties_it(desk: Desk) -> None:
    assert desk.turn() == 0
    desk.topics.tracker.take_event(queued("a", 1.0, at=desk.now))
    assert desk.turn() == 1
    desk.start_all()
    desk.topics.tracker.take_event(event(State.PROCESSING, "a", attempt=1, pool="std", at=desk.now))
    desk.topics.tracker.take_event(event(State.COMPLETED, "a", pool="std", at=desk.now + 1.0))
    assert [desk.turn(10.0) for _ in range(8)] == [1, 1, 1, 1, 1, 0, 0, 0]
    desk.topics.tracker.take_event(queued("b", 1.0, at=desk.now))
    assert desk.turn() == 1


def test_each_change_is_said_and_published_with_its_reason(desk: Desk) -> None:
    desk.topics.tracker.take_event(queued("a", 60.0, at=desk.now))
    desk.turn()
    (line,), (published,) = desk.said, desk.events
    assert (line["kind"], line["pool"], line["before"], line["after"]) == ("scale", "std", 0, published.after)
    assert "60.0 device seconds wait up to lane high" in line["reason"] == published.reason
    assert published.event_id.startswith("cell-0:scale:std:")
    desk.turn()
    assert len(desk.said) == 1


def test_a_dry_run_tells_once_and_changes_nothing() -> None:
    desk = Desk(dry_run=True)
    desk.topics.tracker.take_event(queued("a", 60.0, at=desk.now))
    assert [desk.turn(), desk.turn(), desk.turn()] == [0, 0, 0]
    assert [line["dry_run"] for line in desk.said] == [True]
    assert not desk.events


def test_without_kafka_every_pool_stays_as_it_is_and_that_is_said_once(desk: Desk) -> None:
    desk.topics.tracker.take_event(queued("a", 60.0, at=desk.now))
    size = desk.turn()
    assert size > 1
    desk.topics.away = "no answer from localhost:9092"
    assert [desk.turn(100.0) for _ in range(5)] == [size] * 5
    assert [line["kind"] for line in desk.said] == ["scale", "kept"]
    assert desk.said[-1]["reason"] == "every pool stays as it is: no answer from localhost:9092"
    desk.topics.away = ""
    desk.turn()
    assert desk.said[2] == {"kind": "recovered", "at": desk.now, "reason": "kafka answers again"}


def test_a_controller_that_is_killed_and_started_again_changes_nothing_by_itself(desk: Desk) -> None:
    desk.driver.scale_to(5)
    desk.start_all()
    for _ in range(40):
        desk.restart()
        desk.topics.tracker = DemandTracker(desk.now)
        assert desk.turn() == 5
    assert not desk.said


class Unreachable(MemoryDriver):
    """One that can be cut off."""

    broken = ""

    def observe(self) -> PoolState:
        if self.broken:
            raise DriverError(self.broken)
        return super().observe()

    def scale_to(self, count: int, leaving: Any = ()) -> None:
        self.observe()
        super().scale_to(count, leaving)


def test_a_pool_whose_driver_does_not_answer_stays_and_is_told_of(desk: Desk) -> None:
    desk.driver = driver = Unreachable("std")
    desk.restart()
    desk.turn()
    driver.broken = "deployment worker: the Kubernetes API answers 403"
    desk.topics.tracker.take_event(queued("a", 60.0, at=desk.now))
    for _ in range(3):
        desk.now += 2.0
        assert desk.controller.turn() == []
    assert [line["reason"] for line in desk.said] == [f"pool std stays as it is: {driver.broken}"]
    driver.broken = ""
    assert desk.turn() > 1
    assert [line["kind"] for line in desk.said] == ["kept", "recovered", "scale"]


def test_other_limits_hold_from_the_next_decision_on(desk: Desk) -> None:
    desk.topics.tracker.take_event(queued("a", 600.0, at=desk.now))
    assert desk.turn() == 10
    desk.rules = ScalingRules(pools={"std": rule(max_workers=12)})
    assert desk.turn() == 12
