from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.requests import ServiceClass
from include.scheduling.fair_queue import FairQueue
from include.scheduling.records import Entry
from tests.unit.include.scheduling.harness import request

SHAPE = ("emoji", 32, 32, 4, False)


class Filler:
    """Makes entries in order of arrival."""

    def __init__(self) -> None:
        self.seq = 0

    def __call__(self, tenant: str, predicted_s: float = 1.0, deadline_at: float | None = None) -> Entry:
        self.seq += 1
        entry = Entry(
            request=request(f"r-{self.seq}", tenant=tenant, deadline_at=deadline_at),
            raw="",
            service_class=ServiceClass.BATCH,
            accepted_at=0.0,
            seq=self.seq,
        )
        entry.predicted_s, entry.shape = predicted_s, SHAPE
        return entry


@pytest.fixture
def entry() -> Filler:
    return Filler()


def serve(queue: FairQueue, count: int) -> list[Entry]:
    served = []
    for _ in range(count):
        head = queue.head()
        queue.serve(head, in_turn=True)
        served.append(head)
    return served


def test_inside_a_tenant_the_earliest_deadline_goes_first_then_first_in(entry: Filler) -> None:
    queue = FairQueue()
    for deadline in (None, 9.0, 5.0, None):
        queue.push(entry("a", deadline_at=deadline))
    assert [one.id for one in serve(queue, 4)] == ["r-3", "r-2", "r-1", "r-4"]


def test_a_late_small_tenant_does_not_wait_behind_a_flood(entry: Filler) -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.push(entry("flood"))
    serve(queue, 10)
    queue.push(entry("small"))
    assert "small" in [one.tenant for one in serve(queue, 2)]


def test_tenants_share_device_seconds_not_counts(entry: Filler) -> None:
    queue = FairQueue()
    for _ in range(40):
        queue.push(entry("large", 4.0))
        for _ in range(4):
            queue.push(entry("small", 1.0))
    served = serve(queue, 100)
    seconds = {name: sum(one.predicted_s for one in served if one.tenant == name) for name in ("large", "small")}
    assert abs(seconds["large"] - seconds["small"]) <= 5.0


def test_idleness_saves_nothing_up(entry: Filler) -> None:
    queue = FairQueue()
    queue.push(entry("idle"))
    serve(queue, 1)
    for _ in range(50):
        queue.push(entry("busy"))
    serve(queue, 30)
    for _ in range(20):
        queue.push(entry("idle"))
    assert [one.tenant for one in serve(queue, 20)].count("idle") <= 11


def test_what_fills_a_batch_out_of_turn_is_charged(entry: Filler) -> None:
    queue = FairQueue()
    waiting = [entry("a") for _ in range(10)]
    for one in waiting:
        queue.push(one)
        queue.push(entry("b"))
    for one in waiting[:3]:
        queue.serve(one, in_turn=False)
    assert [one.tenant for one in serve(queue, 3)] == ["b"] * 3


def test_a_completion_that_cost_less_than_predicted_gives_back(entry: Filler) -> None:
    queue = FairQueue()
    for _ in range(4):
        queue.push(entry("a"))
        queue.push(entry("b"))
    assert {one.tenant for one in serve(queue, 2)} == {"a", "b"}
    queue.charge("a", -0.9)
    assert serve(queue, 1)[0].tenant == "a"


def test_removal_leaves_no_trace(entry: Filler) -> None:
    queue = FairQueue()
    kept, gone = entry("a"), entry("b")
    for one in (kept, gone):
        queue.push(one)
    queue.remove(gone)
    assert (len(queue), queue.queued_s, queue.head(), queue.alike(SHAPE)) == (1, 1.0, kept, kept)
    queue.remove(kept)
    assert (len(queue), queue.queued_s, queue.alike(SHAPE), queue.oldest()) == (0, 0.0, None, None)
    with pytest.raises(IndexError):
        queue.head()


def test_what_renders_alone_fills_no_batch(entry: Filler) -> None:
    queue = FairQueue()
    lonely = entry("a")
    lonely.alone = True
    queue.push(lonely)
    assert queue.alike(SHAPE) is None
    queue.serve(queue.head(), in_turn=True)
    assert len(queue) == 0


def test_buffers_stay_within_what_is_queued(entry: Filler) -> None:
    queue = FairQueue()
    for _ in range(3000):
        one = entry("a", deadline_at=float(3000 - entry.seq))
        queue.push(one)
        queue.remove(one)
    assert len(queue._tenants["a"].heap) <= 70 and len(queue._active) <= 70


def test_tenants_whose_service_is_over_are_forgotten(entry: Filler) -> None:
    queue = FairQueue()
    for tenant in ("a", "b", "b", "b"):
        queue.push(entry(tenant))
    serve(queue, 4)
    queue.forget_idle()
    assert set(queue._tenants) <= {"b"}


@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 5.0)), min_size=30, max_size=120),
    order=st.randoms(use_true_random=False),
)
def test_backlogged_tenants_differ_by_at_most_one_request_each(arrivals: list[tuple[str, float]], order: object) -> None:
    """The bound of the class's docstring, for any order of arrival, from any moment on while both stay backlogged."""
    make, queue = Filler(), FairQueue()
    for tenant, seconds in arrivals:
        queue.push(make(tenant, seconds))
    for tenant in "abc":
        queue.push(make(tenant, 1.0))
    served = dict.fromkeys("abc", 0.0)
    largest = {name: max([1.0, *(seconds for tenant, seconds in arrivals if tenant == name)]) for name in "abc"}
    while all(tenant.waiting for tenant in queue._tenants.values()):
        (one,) = serve(queue, 1)
        served[one.tenant] += one.predicted_s
        for first, second in ("ab", "bc", "ac"):
            assert abs(served[first] - served[second]) <= largest[first] + largest[second] + 1e-6
