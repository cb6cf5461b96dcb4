from __future__ import annotations

import pytest

from include.contracts.events import State, Usage
from include.contracts.requests import ServiceClass, Tier
from tests.unit.include.scheduling.harness import Desk, events, leases, route


def test_nothing_is_given_without_credit(desk: Desk) -> None:
    desk.submit("r-1")
    desk.hello(slots=1)
    desk.submit("r-2")
    assert [task.request_id for lease in leases(desk.decisions) for task in lease.tasks] == ["r-1"]
    desk.complete(desk.leased("r-1"))
    assert desk.leased("r-2").worker_id == "w-0"


def test_a_lease_says_everything_that_the_worker_needs(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1", width=64, height=48, guidance=3.0, images=2, seed=7, negative_prompt="blurry")
    (lease,) = leases(desk.decisions)
    (task,) = lease.tasks
    assert (lease.worker_id, lease.incarnation, lease.cell, lease.pool, lease.attempt) == ("w-0", "i-1", "cell-0", "standard", 1)
    assert lease.expires_at == desk.now + lease.lease_s
    assert (task.width, task.height, task.steps, task.guidance, task.images, task.seed) == (64, 48, 4, 3.0, 2, 7)
    assert str(lease.batch_key) == "emoji/1|64x48|4|cfg"


def test_a_seed_is_the_same_at_every_attempt(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    first = desk.leased("r-1")
    desk.fail(first)
    desk.live(2, "w-0")
    assert desk.leased("r-1").tasks[0].seed == first.tasks[0].seed


def test_micro_batches_fill_up_with_compatible_requests_only(desk: Desk) -> None:
    for number in range(6):
        desk.submit(f"small-{number}")
    desk.submit("large", width=64, height=64)
    desk.submit("longer", steps=8)
    desk.submit("guided", guidance=2.0)
    desk.hello(slots=8, max_batch=4)
    batches = [[task.request_id for task in lease.tasks] for lease in leases(desk.decisions)]
    assert sorted(map(len, batches), reverse=True) == [4, 2, 1, 1, 1]
    for lease in leases(desk.decisions):
        assert len({(task.width, task.height, task.steps, task.guided) for task in lease.tasks}) == 1


def test_a_batch_takes_in_other_tenants_and_lower_lanes_but_tells_nobody_of_the_others(desk: Desk) -> None:
    desk.submit("r-1", tier=Tier.PRO, tenant="acme")
    desk.submit("r-2", tier=Tier.PRO, tenant="acme")
    desk.submit("r-3", ServiceClass.BATCH, tenant="globex")
    desk.hello(max_batch=4)
    (lease,) = leases(desk.decisions)
    assert len(lease.tasks) == 3
    assert desk.last("r-1").trace["shared_with"] == ["r-2"]
    assert desk.last("r-3").trace["shared_with"] == []
    assert desk.last("r-3").trace["batch_size"] == 3


@pytest.mark.parametrize(("steps", "second"), [(4, "warm"), (40, "cold")])
def test_waiting_for_a_warm_worker_is_weighed_against_loading_the_model(desk: Desk, steps: int, second: str) -> None:
    """Loading takes 5 s; the warm one is busy for 1 s, or for 10 s."""
    desk.hello("warm", slots=2, warm_models=("emoji/1",))
    desk.submit("r-1", steps=steps)
    desk.hello("cold", slots=2)
    desk.submit("r-2")
    assert [desk.leased(name).worker_id for name in ("r-1", "r-2")] == ["warm", second]


def test_of_equally_cold_workers_the_idle_one_is_chosen(desk: Desk) -> None:
    desk.hello("busy", slots=2)
    desk.submit("r-1")
    desk.hello("idle", slots=2)
    desk.submit("r-2")
    assert [desk.leased(name).worker_id for name in ("r-1", "r-2")] == ["busy", "idle"]


def test_among_idle_workers_a_warm_one_is_chosen(desk: Desk) -> None:
    desk.hello("cold")
    desk.hello("warm", warm_models=("emoji/1",))
    desk.submit("r-1")
    assert desk.leased("r-1").worker_id == "warm"
    assert desk.last("r-1").trace["why_worker"] == "idle, warm"


def test_load_is_spread_over_idle_workers(desk: Desk) -> None:
    for number in range(3):
        desk.hello(f"w-{number}", slots=2)
    for number in range(3):
        desk.submit(f"r-{number}")
    assert {lease.worker_id for lease in leases(desk.decisions)} == {"w-0", "w-1", "w-2"}


def test_the_version_is_that_of_the_moment_of_dispatch(desk: Desk) -> None:
    desk.submit("r-1")
    desk.control(route(version="2"))
    desk.hello()
    assert desk.leased("r-1").model.version == "2"


def test_what_was_asked_stays_when_the_defaults_change(desk: Desk) -> None:
    desk.submit("r-1")
    desk.control(route(version="2", width=64, height=64, steps=30))
    desk.hello()
    (task,) = desk.leased("r-1").tasks
    assert (task.width, task.steps) == (32, 4)


def test_a_model_taken_out_of_service_holds_up_nobody_else(desk: Desk) -> None:
    desk.control(route("other"))
    desk.submit("r-1")
    desk.submit("r-2", model="other")
    desk.control(route(serving=False))
    desk.hello(slots=2)
    assert [task.request_id for lease in leases(desk.decisions) for task in lease.tasks] == ["r-2"]
    desk.control(route(version="3"))
    assert desk.leased("r-1").model.version == "3"


def test_what_is_parked_can_be_cancelled_and_expires(desk: Desk) -> None:
    desk.submit("r-1")
    desk.submit("r-2", deadline_at=desk.now + 5)
    desk.control(route(serving=False))
    desk.hello(slots=2)
    desk.cancel("r-1")
    desk.tick(6)
    assert (desk.ends("r-1"), desk.ends("r-2")) == ([State.CANCELLED], [State.EXPIRED])
    desk.control(route(version="3"))
    assert not leases(desk.decisions)


def test_nothing_starves_behind_a_flood_of_higher_lanes(desk: Desk) -> None:
    """The low lane's bound: its floor is 0.05, so one request of a device second waits for at most 20 of the others'."""
    for number in range(100):
        desk.submit(f"high-{number}", tier=Tier.PRO)
    desk.submit("low", ServiceClass.BATCH)
    desk.hello()
    done = 0
    while not desk.ends("low"):
        desk.complete(leases(desk.decisions)[-1])
        done += 1
    assert done <= 22


def test_a_micro_batch_leaves_out_what_has_expired(desk: Desk) -> None:
    desk.submit("r-1")
    desk.submit("r-2", deadline_at=desk.now + 1)
    desk.submit("r-3")
    desk.now += 2
    decided = desk.hello(max_batch=4)
    assert [task.request_id for lease in leases(decided) for task in lease.tasks] == ["r-1", "r-3"]
    assert [event.request_id for event in events(decided) if event.state is State.EXPIRED] == ["r-2"]


def test_a_tenant_whose_completions_cost_less_than_predicted_gets_the_turns_that_it_is_owed(desk: Desk) -> None:
    """Each is charged a second at its dispatch; what the tenant a did not use comes back at its completion."""
    for number in range(6):
        desk.submit(f"a-{number}", tenant="a")
        desk.submit(f"b-{number}", tenant="b")
    desk.hello()
    cost_s, served = {"a": 0.1, "b": 1.0}, []
    for _ in range(6):
        lease = leases(desk.decisions)[-1]
        served.append(lease.tasks[0].tenant)
        desk.complete(lease, usage=Usage(gpu_seconds=cost_s[served[-1]], render_s=1.0, steps=4))
    assert served == ["a", "b", "a", "a", "a", "a"]


def test_what_differs_in_adapters_or_strength_never_renders_together(desk: Desk) -> None:
    desk.control(route("style").model_copy(update={"adapter_of": "emoji"}))
    kinds = {
        "plain": {},
        "light": {"adapters": ({"name": "style", "weight": 0.5},)},
        "heavy": {"adapters": ({"name": "style", "weight": 1.0},)},
        "from": {"init_image": "inputs/acme/x", "strength": 0.5},
        "far": {"init_image": "inputs/acme/x", "strength": 0.9},
    }
    for name, fields in kinds.items():
        desk.submit(f"{name}-1", **fields)
        desk.submit(f"{name}-2", **fields)
    desk.hello(slots=10, max_batch=4)
    assert [[task.request_id for task in lease.tasks] for lease in leases(desk.decisions)] == [[f"{name}-1", f"{name}-2"] for name in kinds]
