"""A share of a model's requests renders on the version on trial."""

from __future__ import annotations

import pytest

from include.contracts.control import Canary, ModelRoute
from include.contracts.events import State
from include.routing.catalog import version_for
from tests.unit.include.scheduling.harness import START, Desk, leases, route

CHAMPION, CHALLENGER = "emoji/1", "emoji/2"


def on_trial(share: float = 0.5, at: float = START) -> ModelRoute:
    challenger = route(version="2").champion
    assert challenger is not None
    return route(at=at).model_copy(update={"canary": Canary(challenger=challenger, share=share)})


def asks_for(request_id: str, share: float = 0.5) -> str:
    version = version_for(on_trial(share), request_id)
    assert version is not None
    return version.version


def ids(version: str, count: int) -> list[str]:
    names = (f"r-{number}" for number in range(1000))
    return [name for name in names if asks_for(name) == version][:count]


@pytest.fixture
def trial(desk: Desk) -> Desk:
    desk.hello(slots=4, max_batch=4, warm_models=(CHAMPION, CHALLENGER))
    desk.control(on_trial())
    return desk


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_kept(share: float) -> None:
    count = sum(asks_for(f"request-{number}", share) == "2" for number in range(10_000))
    assert abs(count - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5


def test_a_larger_share_keeps_the_requests_of_a_smaller_one() -> None:
    names = [f"r-{number}" for number in range(1000)]
    assert {name for name in names if asks_for(name, 0.1) == "2"} < {name for name in names if asks_for(name, 0.5) == "2"}


def test_each_request_renders_on_the_version_that_its_id_asks_for_and_says_so(trial: Desk) -> None:
    (first,), (second,) = ids("1", 1), ids("2", 1)
    for name, version in ((first, "1"), (second, "2")):
        trial.submit(name)
        assert trial.leased(name).model.version == version
        assert trial.leased(name).batch_key.model == f"emoji/{version}"
    assert trial.last(second).trace["canary_share"] == 0.5
    assert "canary_share" not in trial.last(first).trace


def test_a_retry_stays_on_its_version_and_a_failure_names_it(trial: Desk) -> None:
    (name,) = ids("2", 1)
    trial.submit(name)
    for _ in range(3):
        assert trial.leased(name).model.version == "2"
        trial.fail(trial.leased(name))
        trial.tick(10.0)
        trial.credit(slots=4, warm_models=(CHAMPION, CHALLENGER))
    assert (trial.last(name).state, trial.last(name).model_version) == (State.FAILED, "2")


def test_a_micro_batch_holds_one_version(desk: Desk) -> None:
    desk.control(on_trial())
    mixed = [*ids("1", 3), *ids("2", 3)]
    for name in mixed:
        desk.submit(name)
    desk.hello(slots=4, max_batch=8, warm_models=(CHAMPION, CHALLENGER))
    found = {lease.model.version: sorted(task.request_id for task in lease.tasks) for lease in leases(desk.decisions)}
    assert found == {"1": sorted(ids("1", 3)), "2": sorted(ids("2", 3))}


def test_a_worker_that_has_not_loaded_it_renders_on_the_champion(desk: Desk) -> None:
    desk.hello("cold", warm_models=(CHAMPION,))
    desk.control(on_trial())
    (first, second) = ids("2", 2)
    desk.submit(first)
    assert desk.leased(first).model.version == "1"
    desk.hello("warm", slots=1, warm_models=(CHAMPION, CHALLENGER))
    desk.submit(second)
    assert (desk.leased(second).worker_id, desk.leased(second).model.version) == ("warm", "2")


def test_where_the_only_room_is_on_a_cold_worker_the_trace_tells_why_the_champion_renders(desk: Desk) -> None:
    desk.hello("full", slots=1, warm_models=(CHAMPION, CHALLENGER))
    desk.control(on_trial())
    (other,), (name,) = ids("1", 1), ids("2", 1)
    desk.submit(other)
    desk.hello("cold", warm_models=(CHAMPION,))
    desk.submit(name)
    assert desk.leased(name).model.version == "1"
    assert desk.last(name).trace["why_worker"].endswith("has not loaded version 2 on trial, so champion 1 renders")


def test_a_worker_that_refuses_it_renders_on_the_champion(desk: Desk) -> None:
    desk.hello()
    desk.credit(warm_models=(CHAMPION,), refused_models=(CHALLENGER,))
    desk.control(on_trial())
    (name,) = ids("2", 1)
    desk.submit(name)
    assert desk.leased(name).model.version == "1"


def test_the_end_of_the_trial_gives_every_request_to_the_champion(trial: Desk) -> None:
    trial.control(route(at=START + 1))
    (name,) = ids("2", 1)
    trial.submit(name)
    assert trial.leased(name).model.version == "1"
