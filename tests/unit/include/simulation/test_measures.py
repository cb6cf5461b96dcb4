from __future__ import annotations

import numpy as np
import pytest

from include.contracts.events import Lane, State
from include.contracts.requests import Tier
from include.simulation.ledger import NEVER, Columns, Ledger, Record
from include.simulation.measures import Measures, jain, measure, waits_over_time
from include.simulation.scenario import START, Scenario
from tests.unit.include.simulation.builders import small

END = START + 100.0
WARM_UP_S = 20.0


class Story:
    """Requests written into a ledger by hand; times count from the start."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._number = 0

    def tell(
        self,
        arrived: float,
        started: float = NEVER,
        rendered: float = NEVER,
        *,
        lane: Lane = Lane.HIGH,
        tenant: str = "acme",
        state: State | None = State.COMPLETED,
        **fields: float,
    ) -> None:
        name = f"r-{self._number}"
        self._number += 1
        record = Record(lane, Tier.PRO, tenant, arrived=START + arrived, admitted=START + arrived)
        record.dispatched, record.started, record.rendered = START + started, START + started, START + rendered
        record.gpu_s = 0.0 if np.isnan(rendered) else rendered - started
        for field, value in fields.items():
            setattr(record, field, value)
        self.ledger.arrive(name, record)
        if state is not None:
            self.ledger.end(name, state, START + (arrived if np.isnan(rendered) else rendered))

    def columns(self) -> Columns:
        return self.ledger.close(END)

    def measured(self, scenario: Scenario | None = None) -> Measures:
        return measure(self.columns(), scenario or small(), warm_up_s=WARM_UP_S)


def test_waits_count_from_the_arrival_to_the_render_inside_the_window():
    story = Story()
    story.tell(0.0, 19.0, 20.0)
    story.tell(10.0, 22.0, 23.0)
    assert story.measured().p99_s == {Lane.HIGH: pytest.approx(12.0), Lane.NORMAL: None, Lane.LOW: None}


def test_what_still_waits_at_the_end_counts_with_what_it_has_waited():
    story = Story()
    story.tell(30.0, state=None, lane=Lane.LOW)
    assert story.measured().p99_s[Lane.LOW] == pytest.approx(70.0)


def test_a_refused_request_did_not_wait_but_missed_its_objective():
    story = Story()
    story.tell(30.0, 31.0, 32.0)
    story.tell(40.0, state=State.REFUSED)
    found = story.measured()
    assert found.p99_s[Lane.HIGH] == pytest.approx(1.0)
    assert found.slo_attainment == 0.5
    assert found.refused == 0.5
    assert found.goodput == pytest.approx(1 / 80)


def test_shares_and_utilisation_take_what_lies_inside_the_window():
    story = Story()
    story.tell(0.0, 0.0, 40.0)
    story.tell(0.0, 40.0, 60.0, lane=Lane.LOW)
    story.tell(0.0, 90.0, 100.0, state=None)
    found = story.measured()
    assert found.low_share == pytest.approx(20.0 / 50.0)
    assert found.utilisation == pytest.approx(50.0 / (2 * 80.0))


def backlog(story: Story, tenant: str, gpu_s: float, *, until: float = 100.0) -> None:
    """A tenant that has something waiting from the start until then, and is served ``gpu_s`` meanwhile."""
    story.tell(0.0, 50.0, 50.0 + gpu_s, tenant=tenant)
    story.tell(0.0, until, until + 1.0, tenant=tenant)
    story.tell(0.0, state=None, tenant=tenant) if until >= 100.0 else None


def test_fairness_is_judged_among_backlogged_tenants_of_one_lane_and_tier():
    story = Story()
    backlog(story, "a", 10.0)
    backlog(story, "b", 30.0)
    backlog(story, "idle", 1.0, until=60.0)
    assert story.measured().jain_gpu_seconds == pytest.approx(40.0**2 / (2 * (10.0**2 + 30.0**2)))


def test_no_fairness_without_two_backlogged_tenants():
    story = Story()
    backlog(story, "a", 10.0)
    assert story.measured().jain_gpu_seconds is None


def test_who_waits_longer_than_promised_is_counted_even_while_it_waits():
    story = Story()
    story.tell(30.0, 35.0, 36.0, bound_s=5.5)
    story.tell(30.0, 36.0, 37.0, bound_s=5.5)
    story.tell(30.0, state=None, bound_s=60.0)
    story.tell(30.0, state=None)
    assert story.measured().past_bound == 2


def test_estimates_are_held_against_the_wait_for_the_dispatch():
    story = Story()
    story.tell(30.0, 35.0, 36.0, likely_low_s=4.0, likely_high_s=6.0)
    story.tell(30.0, 35.0, 36.0, likely_low_s=6.0, likely_high_s=9.0)
    assert story.measured().estimate_coverage == 0.5


def test_the_least_guaranteed_share_is_told():
    story = Story()
    for share in (0.05, 0.03, 0.1):
        story.ledger.shares.append((START, {Lane.HIGH: 0.5, Lane.NORMAL: 0.2, Lane.LOW: share}))
    assert story.measured().low_floor == 0.03


def test_waits_over_time_are_by_when_the_wait_ended_or_of_the_oldest_while_none_does():
    story = Story()
    story.tell(0.0, 5.0, 6.0)
    story.tell(4.0, 65.0, 66.0)
    minutes, waits = waits_over_time(story.columns(), small(), Lane.HIGH, 30.0)
    assert minutes.tolist() == [0.25, 0.75, 1.25]
    assert waits.tolist() == [5.0, 56.0, 61.0]


def test_a_lane_that_is_never_served_waits_longer_and_longer():
    story = Story()
    story.tell(10.0, lane=Lane.LOW, state=None)
    story.tell(20.0, lane=Lane.LOW, state=State.REFUSED)
    _, waits = waits_over_time(story.columns(), small(), Lane.LOW, 30.0)
    assert waits.tolist() == [20.0, 50.0, 80.0, 90.0]


def test_jain_goes_from_one_over_n_to_one():
    assert jain(np.array([3.0, 3.0, 3.0])) == pytest.approx(1.0)
    assert jain(np.array([3.0, 0.0, 0.0])) == pytest.approx(1 / 3)


def test_a_request_can_not_end_twice():
    story = Story()
    story.tell(0.0, 1.0, 2.0)
    with pytest.raises(KeyError):
        story.ledger.end("r-0", State.COMPLETED, END)
