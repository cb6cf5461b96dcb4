from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.requests import ServiceClass
from include.scheduling.fair_queue import PASSES, FairQueue
from include.scheduling.records import Entry
from tests.unit.include.scheduling.harness import request

SHAPE = ("emoji", 32, 32, 4, False, "")


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
        assert head is not None
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
    assert queue.head() is None


def test_what_renders_alone_fills_no_batch(entry: Filler) -> None:
    queue = FairQueue()
    lonely = entry("a")
    lonely.alone = True
    queue.push(lonely)
    assert queue.alike(SHAPE) is None
    assert serve(queue, 1) == [lonely] and len(queue) == 0


@pytest.mark.parametrize("stays", [True, False])
def test_buffers_stay_within_what_is_queued(entry: Filler, stays: bool) -> None:
    queue = FairQueue()
    if stays:
        queue.push(entry("a"))
    for _ in range(3000):
        one = entry("a", deadline_at=float(3001 - entry.seq))
        queue.push(one)
        queue.remove(one)
    (section,) = queue._sections.values()
    assert len(section.active) <= 70
    assert sum(len(line.heap) for line in section.lines.values()) <= 70


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
    while all(tenant.count for tenant in queue._tenants.values()):
        (one,) = serve(queue, 1)
        served[one.tenant] += one.predicted_s
        for first, second in ("ab", "bc", "ac"):
            assert abs(served[first] - served[second]) <= largest[first] + largest[second] + 1e-6


def test_service_goes_by_weight(entry: Filler) -> None:
    queue = FairQueue()
    for tenant, weight in (("light", 1.0), ("heavy", 3.0)):
        for _ in range(100):
            one = entry(tenant)
            one.weight = weight
            queue.push(one)
    served = [one.tenant for one in serve(queue, 80)]
    assert abs(served.count("heavy") - 60) <= 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 20.0)), min_size=60, max_size=200),
    st.tuples(*[st.floats(0.5, 8.0)] * 3),
)
def test_no_backlogged_tenant_lags_by_more_than_the_stated_bound(arrivals: list[tuple[str, float]], weights: tuple[float, ...]) -> None:
    """|S_i/w_i - S_j/w_j| <= l_i/w_i + l_j/w_j for each pair that stays backlogged, whatever the order of arrival."""
    queue, make, weight = FairQueue(), Filler(), dict(zip("abc", weights, strict=True))
    largest, served, waiting = dict.fromkeys("abc", 0.0), dict.fromkeys("abc", 0.0), dict.fromkeys("abc", 0)
    for tenant, cost in arrivals:
        one = make(tenant, cost)
        one.weight = weight[tenant]
        queue.push(one)
        largest[tenant], waiting[tenant] = max(largest[tenant], cost), waiting[tenant] + 1
    while all(waiting[tenant] for tenant in "abc"):
        (one,) = serve(queue, 1)
        served[one.tenant] += one.predicted_s
        waiting[one.tenant] -= 1
        for i, j in ("ab", "bc", "ac"):
            lag = abs(served[i] / weight[i] - served[j] / weight[j])
            assert lag <= largest[i] / weight[i] + largest[j] / weight[j] + 1e-6


def test_a_full_pool_holds_up_only_those_that_need_it(entry: Filler) -> None:
    queue = FairQueue()
    picky, easy = entry("a"), entry("b")
    picky.pools, easy.pools = frozenset({"premium"}), frozenset({"premium", "spot"})
    for one in (picky, easy):
        queue.push(one)
    assert queue.head(frozenset({"spot"})) is easy
    assert queue.head(frozenset({"premium", "spot"})) is picky
    assert queue.head(frozenset()) is None
    assert queue.alike(SHAPE, "spot") is easy


def test_a_paused_tenant_keeps_its_place_and_loses_none_of_its_share(entry: Filler) -> None:
    paused: set[str] = set()
    queue = FairQueue(paused)
    for _ in range(10):
        queue.push(entry("a"))
        queue.push(entry("b"))
    paused.add("a")
    queue.pause("a")
    queue.push(entry("a"))
    assert [one.tenant for one in serve(queue, 4)] == ["b"] * 4
    assert queue.alike(SHAPE) is not None and queue.alike(SHAPE).tenant == "b"
    paused.discard("a")
    queue.resume("a")
    assert [one.tenant for one in serve(queue, 6)] == ["a"] * 5 + ["b"]


def test_a_restored_queue_goes_on_with_the_same_turns(entry: Filler) -> None:
    queue, again = FairQueue(), FairQueue()
    kept = [entry(tenant, cost) for tenant, cost in (("a", 5.0), ("b", 1.0), ("a", 1.0), ("c", 2.0), ("b", 1.0), ("c", 2.0))]
    for one in kept:
        queue.push(one)
    served = serve(queue, 2)
    for name in queue.dirty:
        tag, order = queue.tag(name)
        again.restore_tag(name, tag, order)
    again.virtual_time = queue.virtual_time
    for one in kept:
        if one not in served:
            again.push(one)
    assert serve(again, 4) == serve(queue, 4)


def test_heads_come_in_the_order_of_their_turns(entry: Filler) -> None:
    queue = FairQueue()
    for tenant in "abc":
        one = entry(tenant)
        one.pools = frozenset({"spot"})
        queue.push(one)
    heads = queue.heads(frozenset({"spot"}), 2)
    assert [one.tenant for _, one in heads] == ["a", "b"]


def test_a_tenants_next_request_is_passed_over_a_few_times_only(entry: Filler) -> None:
    """What is popular fills others' micro-batches; the tenant's rarer requests must not wait for ever behind it."""
    queue = FairQueue()
    rare = entry("a")
    rare.shape = ("emoji", 64, 64, 4, False, "")
    queue.push(rare)
    for _ in range(2 * PASSES):
        queue.push(entry("a"))
    for _ in range(PASSES):
        found = queue.alike(SHAPE)
        assert found is not None
        queue.serve(found, in_turn=False)
    assert queue.alike(SHAPE) is None
    assert serve(queue, 1) == [rare]
    assert queue.alike(SHAPE) is not None


def test_a_tenant_that_is_far_ahead_fills_no_more(entry: Filler) -> None:
    queue = FairQueue()
    for tenant in "aaaaab":
        queue.push(entry(tenant))
    for _ in range(3):
        found = queue.alike(SHAPE, ahead_s=2.0)
        assert found is not None and found.tenant == "a"
        queue.serve(found, in_turn=False)
    found = queue.alike(SHAPE, ahead_s=2.0)
    assert found is not None and found.tenant == "b"
