from __future__ import annotations

from collections import Counter
from itertools import cycle

import pytest

from include.contracts.events import State
from include.contracts.requests import ServiceClass, Tier
from include.simulation.baselines import BaselinePolicy, CountRoundRobinOrder, FifoOrder, Order, StrictOrder
from include.simulation.policy import Admitted, Arrival, Ended
from include.simulation.scenario import START
from tests.unit.include.simulation.builders import arrival, served, small

ORDERS = [FifoOrder, StrictOrder, CountRoundRobinOrder]
KINDS = [(Tier.FREE, ServiceClass.BATCH), (Tier.FREE, ServiceClass.REALTIME), (Tier.PRO, ServiceClass.REALTIME)]
PRIORITY = {KINDS[2]: 0, KINDS[1]: 1, KINDS[0]: 2}


def policy(order: type[Order]) -> BaselinePolicy:
    return BaselinePolicy(small(), order)


def mixed_arrivals(count: int = 30) -> list[Arrival]:
    kinds, tenants = cycle(KINDS), cycle("abcd")
    return [
        arrival(f"r-{number:02}", tier=tier, service_class=service_class, tenant=tenant, steps=4 + 16 * (number % 2))
        for number, (tier, service_class), tenant in zip(range(count), kinds, tenants, strict=False)
    ]


def test_fifo_serves_in_order_of_arrival_whatever_the_lane():
    arrivals = mixed_arrivals()
    assert served(policy(FifoOrder), arrivals) == [(one.request.request_id,) for one in arrivals]


@pytest.mark.parametrize("order", [StrictOrder, CountRoundRobinOrder])
def test_lanes_are_served_by_strict_priority(order: type[Order]):
    arrivals = {one.request.request_id: one for one in mixed_arrivals()}
    lanes = [
        PRIORITY[arrivals[name].request.tier, arrivals[name].service_class] for (name,) in served(policy(order), list(arrivals.values()))
    ]
    assert lanes == sorted(lanes)
    assert set(lanes) == {0, 1, 2}


def test_strict_is_first_in_first_out_inside_a_lane():
    arrivals = [arrival(f"r-{number}", tenant="ab"[number % 3 > 0]) for number in range(9)]
    assert served(policy(StrictOrder), arrivals) == [(one.request.request_id,) for one in arrivals]


def test_round_robin_counts_requests_and_not_what_they_cost():
    heavy = [arrival(f"heavy-{number}", tenant="heavy", steps=100) for number in range(20)]
    light = [arrival(f"light-{number}", tenant="light", steps=1) for number in range(5)]
    first = [name.split("-")[0] for (name,) in served(policy(CountRoundRobinOrder), heavy + light)][:10]
    assert Counter(first) == {"heavy": 5, "light": 5}
    assert first == ["heavy", "light"] * 5


@pytest.mark.parametrize("order", ORDERS)
def test_a_micro_batch_holds_requests_of_one_shape_and_of_one_lane_at_most_as_many_as_the_worker_takes(order: type[Order]):
    arrivals = {one.request.request_id: one for one in mixed_arrivals()}
    scenario = small(max_batch=4)
    batches = served(BaselinePolicy(scenario, order), list(arrivals.values()), max_batch=4)
    assert sorted(name for batch in batches for name in batch) == sorted(arrivals)
    assert max(len(batch) for batch in batches) > 1
    for batch in batches:
        assert len({arrivals[name].request.steps for name in batch}) == 1
        if order is not FifoOrder:
            assert len({(arrivals[name].request.tier, arrivals[name].service_class) for name in batch}) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_micro_batch_stays_within_the_budget(order: type[Order]):
    large = [arrival(f"r-{number}", width=1024, height=1024, steps=24, guidance=5.0) for number in range(3)]
    assert served(BaselinePolicy(small(max_batch=4), order), large, max_batch=4) == [("r-0",), ("r-1",), ("r-2",)]


def test_everything_is_admitted_but_what_nobody_can_render():
    fifo = policy(FifoOrder)
    assert fifo.submit(arrival("a"), START) == [Admitted("a")]
    assert fifo.submit(arrival("b", model="unheard-of"), START) == [Ended("b", State.REFUSED)]
    assert fifo.batch_open(START)
