from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from include.contracts.events import State
from include.contracts.requests import ServiceClass
from include.simulation.arrivals import poisson
from include.simulation.baselines import BaselinePolicy, FifoOrder
from include.simulation.compare import POLICIES
from include.simulation.engine import Simulation
from include.simulation.ledger import Columns
from include.simulation.policy import Arrival, Assigned, Move
from include.simulation.scenario import START, Scenario, mixed
from tests.unit.include.simulation.builders import arrival, small

SECONDS = 40.0


def simulated(policy: str, load: float, seed: int = 1, scenario: Scenario | None = None) -> Columns:
    scenario = scenario or mixed(workers=2)
    return Simulation(scenario, POLICIES[policy](scenario), seed=seed).run(poisson(scenario, load, SECONDS, seed), SECONDS)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_run(policy: str):
    first, again = simulated(policy, 1.5), simulated(policy, 1.5)
    for name in first.numbers:
        np.testing.assert_array_equal(first[name], again[name], err_msg=name)
    np.testing.assert_array_equal(first.state, again.state)
    assert first.tenants == again.tenants


@pytest.mark.parametrize("load", [0.5, 3.0])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_request_is_booked_once_and_ends_at_most_once(policy: str, load: float):
    scenario = mixed(workers=2)
    sent = sum(1 for _ in poisson(scenario, load, SECONDS, 1))
    run = simulated(policy, load)
    assert len(run) == sent
    completed = run.in_state(State.COMPLETED)
    assert completed.sum() > 0
    assert (run["arrived"][completed] <= run["dispatched"][completed]).all()
    assert (run["dispatched"][completed] < run["started"][completed]).all()
    assert (run["started"][completed] < run["rendered"][completed]).all()
    assert (run["rendered"][completed] < run["ended"][completed]).all()
    assert np.isnan(run["started"][run.in_state(State.REFUSED)]).all()
    assert (np.isnan(run["ended"]) == (run.state == -1)).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_everything_is_over_once_the_arrivals_stop(policy: str):
    scenario = mixed(workers=2)
    arrivals = list(poisson(scenario, 0.8, SECONDS, 1))
    run = Simulation(scenario, POLICIES[policy](scenario)).run(arrivals, SECONDS + 120.0)
    assert len(run) == len(arrivals)
    completed, refused = run.in_state(State.COMPLETED), run.in_state(State.REFUSED)
    assert (completed | refused).all()
    assert completed.mean() > 0.9
    assert policy == "ours" or completed.all()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_worker_idles_while_something_waits(policy: str):
    """Of the two workers' time after the first seconds of an overload, all is used but the way of the messages."""
    run = simulated(policy, 3.0)
    used = np.clip(run["rendered"] - np.maximum(run["started"], START + 10.0), 0.0, None) / (run["rendered"] - run["started"])
    assert np.nansum(used * run["gpu_s"]) / (2 * (SECONDS - 10.0)) > 0.97


def test_device_seconds_are_shared_among_a_micro_batch():
    run = simulated("fifo", 3.0)
    by_render = Counter[tuple[float, float]]()
    rendered = ~np.isnan(run["rendered"])
    for began, until, gpu_s in zip(run["started"][rendered], run["rendered"][rendered], run["gpu_s"][rendered], strict=True):
        by_render[began, until] += gpu_s
    assert max(by_render.values()) > 0
    for (began, until), total in by_render.items():
        assert total == pytest.approx(until - began)


class Holding(BaselinePolicy):
    """First in, first out, with a batch topic that is closed for a while."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, FifoOrder)
        self.read: list[tuple[str, float]] = []

    def submit(self, arrival: Arrival, now: float) -> list[Move]:
        self.read.append((arrival.request.request_id, now))
        return super().submit(arrival, now)

    def batch_open(self, now: float) -> bool:
        return now >= START + 10.0


def test_a_closed_batch_topic_keeps_its_requests_in_order_and_their_waits_count():
    scenario = small(sigma=0.0)
    batch = [arrival(f"b-{number}", at=START + number, service_class=ServiceClass.BATCH) for number in range(3)]
    policy = Holding(scenario)
    run = Simulation(scenario, policy).run([*batch, arrival("r-0", at=START + 3.0)], 20.0)
    assert [name for name, _ in policy.read] == ["r-0", "b-0", "b-1", "b-2"]
    assert all(at >= START + 10.0 for name, at in policy.read if name != "r-0")
    assert (run["started"] - run["arrived"]).max() >= 10.0


class Overfull(BaselinePolicy):
    """Gives a worker more than it takes."""

    def submit(self, arrival: Arrival, now: float) -> list[Move]:
        moves = super().submit(arrival, now)
        self._held = dict.fromkeys(self._held, 0)
        return [move for move in moves if isinstance(move, Assigned)]


def test_a_policy_that_overfills_a_worker_is_found_out():
    scenario = replace(small(), workers=1)
    arrivals = [arrival(f"r-{number}", at=START + 0.01 * number) for number in range(5)]
    with pytest.raises(ValueError, match="on top"):
        Simulation(scenario, Overfull(scenario, FifoOrder)).run(arrivals, 5.0)


def test_a_repeated_request_id_in_the_arrivals_is_named():
    scenario = small()
    with pytest.raises(ValueError, match="r-0 arrived twice"):
        Simulation(scenario, BaselinePolicy(scenario, FifoOrder)).run([arrival("r-0"), arrival("r-0", at=START + 0.01)], 5.0)
