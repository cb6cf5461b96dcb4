from __future__ import annotations

import pytest

from include.contracts.control import Canary, ModelDefaults, ModelRoute
from include.contracts.dispatch import ModelRef
from include.contracts.events import State, StatusEvent
from include.contracts.requests import GenerationRequest
from include.demo.burst_plan import Capacity
from include.demo.observer import Seen
from include.demo.page import film_strip
from include.demo.rollback import GUIDANCE, PROMPTS, Trial, completions, pace, stream_request, trial_of
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import rollback_of


def seen_of(*events: tuple[str, State, str, float]) -> Seen:
    seen = Seen()
    for request_id, state, version, at in events:
        event = StatusEvent(
            event_id=f"{request_id}:{state}", request_id=request_id, tenant="hooli", state=state, at=at, model_version=version
        )
        seen.events[request_id].append(event)
    return seen


def test_only_what_was_sent_after_the_move_proves_the_rollback() -> None:
    sent = {"before": ("red apple", 9.0), "after": ("red apple", 10.5), "failed": ("red apple", 10.6), "other": ("red apple", 10.7)}
    seen = seen_of(
        ("before", State.COMPLETED, "1", 10.1),  # in flight on the old version since before: no proof of anything
        ("after", State.COMPLETED, "1", 11.4),
        ("failed", State.FAILED, "1", 11.0),
        ("other", State.COMPLETED, "2", 11.1),
    )
    assert completions(seen, sent, "1", since=10.0)[0].request_id == "after"
    assert [event.request_id for event in completions(seen, sent, "2", since=10.0)] == ["other"]


def test_what_is_not_completed_yet_does_not_count() -> None:
    seen = seen_of(("r", State.PROCESSING, "1", 11.0))
    assert completions(seen, {"r": ("red apple", 10.5), "unheard": ("red apple", 10.6)}, "1", since=10.0) == []


def test_the_stream_repeats_prompts_with_their_seeds_so_that_versions_can_be_compared() -> None:
    requests = [GenerationRequest.from_json(stream_request(f"r-{number}", number).value or b"") for number in range(2 * len(PROMPTS))]
    first, second = requests[: len(PROMPTS)], requests[len(PROMPTS) :]
    assert [(one.prompt, one.seed) for one in first] == [(one.prompt, one.seed) for one in second]
    assert len({one.request_id for one in requests}) == len(requests)


def test_no_two_of_the_stream_are_one_request_to_the_result_cache() -> None:
    requests = [GenerationRequest.from_json(stream_request(f"r-{number}", number).value or b"") for number in range(200)]
    assert len({(one.prompt, one.seed, one.guidance) for one in requests}) == len(requests)
    assert all(one.guidance is not None and abs(one.guidance - GUIDANCE) < 0.03 for one in requests)


def test_the_film_strip_shows_both_changes(store: ObjectStore) -> None:
    strip = film_strip(rollback_of(store), around=3)
    assert [shot["version"] for shot in strip if shot["change"]] == ["2", "1"]
    assert len(strip) == 12


def route(at: float, share: float | None, challenger: str = "2") -> ModelRoute:
    one, other = (ModelRef(name="emoji", version=version, digest="0" * 64, source="mlflow-artifacts:/x") for version in ("1", challenger))
    canary = None if share is None else Canary(challenger=other, share=share)
    defaults = ModelDefaults(width=64, height=64, steps=4, guidance=3.0)
    return ModelRoute(at=at, name="emoji", champion=one, defaults=defaults, canary=canary)


def test_a_canary_is_what_the_router_was_told() -> None:
    seen = Seen(routes=[route(5.0, 0.5), route(12.0, 0.3), route(19.0, None)])
    assert trial_of(seen, "emoji", "2", 10.0, 20.0) == Trial(share=0.3, began_at=12.0, ended_at=19.0)


def test_a_canary_that_the_promotion_ended_ends_with_it() -> None:
    assert trial_of(Seen(routes=[route(12.0, 0.3)]), "emoji", "2", 10.0, 20.0) == Trial(share=0.3, began_at=12.0, ended_at=20.0)


def test_of_no_canary_or_another_version_s_there_is_none() -> None:
    assert trial_of(Seen(routes=[route(12.0, None), route(13.0, 0.3, "3")]), "emoji", "2", 10.0, 20.0) is None


@pytest.mark.parametrize(("unit_s", "every_s"), [(0.1, 0.4), (0.96, 0.8)])
def test_the_stream_leaves_the_workers_time(unit_s: float, every_s: float) -> None:
    defaults = ModelDefaults(width=64, height=64, steps=4, guidance=3.0)
    assert pace(Capacity(workers=2, unit_s=unit_s, defaults=defaults)) == pytest.approx(every_s)
