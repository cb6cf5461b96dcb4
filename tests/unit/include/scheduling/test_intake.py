from __future__ import annotations

import pytest

from include.contracts.control import Policy, Scenario
from include.contracts.defaults import default_policy
from include.contracts.errors import ReasonCode
from include.contracts.events import Lane, State
from include.contracts.requests import ServiceClass, Tier
from include.routing.parse import Refusal, parse_request
from include.scheduling.tuning import Tuning
from tests.unit.include.scheduling.harness import START, Desk, events, letters, request, revokes, route


def test_an_accepted_request_is_announced_with_lane_and_position(desk: Desk) -> None:
    first, second = desk.submit("r-1", tier=Tier.PRO), desk.submit("r-2", tier=Tier.PRO)
    assert [(event.state, event.lane, event.position) for event in events(first + second)] == [
        (State.QUEUED, Lane.HIGH, 1),
        (State.QUEUED, Lane.HIGH, 2),
    ]
    assert events(first)[0].trace["predicted_gpu_s"] == 1.0


@pytest.mark.parametrize(
    ("service_class", "tier", "lane"),
    [
        (ServiceClass.REALTIME, Tier.ENTERPRISE, Lane.HIGH),
        (ServiceClass.REALTIME, Tier.FREE, Lane.NORMAL),
        (ServiceClass.BATCH, Tier.ENTERPRISE, Lane.NORMAL),
        (ServiceClass.BATCH, Tier.FREE, Lane.LOW),
    ],
)
def test_class_and_tier_choose_the_lane(desk: Desk, service_class: ServiceClass, tier: Tier, lane: Lane) -> None:
    desk.submit("r-1", service_class, tier=tier)
    assert desk.scheduler.depth(lane) == 1


def test_a_new_policy_table_holds_for_later_requests(desk: Desk) -> None:
    swapped = [rule.model_copy(update={"lane": Lane.LOW}) for rule in default_policy().lanes]
    desk.submit("r-1", tier=Tier.PRO)
    desk.control(Policy(at=START, lanes=tuple(swapped), lane_bound_s=dict.fromkeys(Lane, 100.0)))
    desk.submit("r-2", tier=Tier.PRO)
    assert (desk.scheduler.depth(Lane.HIGH), desk.scheduler.depth(Lane.LOW)) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"model": "nobody"}, ReasonCode.UNKNOWN_MODEL, "model"),
        ({"scenario": "nowhere"}, ReasonCode.UNKNOWN_SCENARIO, "scenario"),
        ({"width": 2048, "height": 2048}, ReasonCode.UNSUPPORTED_SHAPE, "width"),
        ({"images": 9}, ReasonCode.UNSUPPORTED_SHAPE, "images"),
        ({"deadline_at": START - 1}, ReasonCode.DEADLINE_PASSED, "deadline_at"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason_and_bytes(desk: Desk, fields: dict, code: ReasonCode, field: str) -> None:
    desk.control(route(sizes=((32, 32),)))
    desk.submit("warm-up")
    desk.now += desk.scheduler._cell.tuning.control_grace_s
    decided = desk.submit("r-1", **fields)
    (event,), (letter,) = events(decided), letters(decided)
    assert (event.state, event.reason.code, event.reason.field) == (State.REFUSED, code, field)
    assert letter.reason == event.reason
    assert letter.original_bytes() == request("r-1", **fields).to_json()
    assert (letter.request_id, letter.tenant, letter.source_topic) == ("r-1", "acme", "requests.realtime")


def test_a_refused_id_may_be_sent_again(desk: Desk) -> None:
    desk.submit("r-1", deadline_at=START - 1)
    desk.submit("r-1")
    assert desk.states("r-1") == [State.REFUSED, State.QUEUED]


def test_the_same_id_again_gets_a_dead_letter_and_no_event(desk: Desk) -> None:
    desk.submit("r-1")
    decided = desk.submit("r-1", prompt="another")
    assert not events(decided)
    assert letters(decided)[0].reason.code is ReasonCode.DUPLICATE_ID


def test_an_id_stays_taken_after_its_request_is_over(desk: Desk) -> None:
    desk.hello()
    desk.submit("r-1")
    desk.complete(desk.leased("r-1"))
    assert letters(desk.submit("r-1"))[0].reason.code is ReasonCode.DUPLICATE_ID
    assert desk.ends("r-1") == [State.COMPLETED]


def test_another_tenants_id_is_taken_and_nothing_of_its_owner_is_told(desk: Desk) -> None:
    desk.submit("r-1", tenant="secretive", prompt="a secret")
    decided = desk.submit("r-1", tenant="curious")
    (letter,) = letters(decided)
    assert not events(decided)
    assert letter.reason.code is ReasonCode.ID_TAKEN
    assert "secret" not in letter.model_dump_json(exclude={"original"})


def test_a_malformed_request_with_a_taken_id_says_nothing_more_than_that(desk: Desk) -> None:
    desk.submit("r-1", tenant="secretive")
    text = '{"request_id": "r-1", "tenant": "curious", "prompt": "x", "steps": -1}'
    refusal = parse_request(text)
    assert isinstance(refusal, Refusal)
    decided = desk.take(desk.scheduler.refuse(refusal, text, ServiceClass.REALTIME, desk.now))
    assert not events(decided)
    assert letters(decided)[0].reason.code is ReasonCode.ID_TAKEN


def test_an_unreadable_message_without_identity_is_a_dead_letter_alone(desk: Desk) -> None:
    refusal = parse_request(None)
    assert isinstance(refusal, Refusal)
    decided = desk.take(desk.scheduler.refuse(refusal, None, ServiceClass.BATCH, desk.now))
    assert not events(decided)
    assert (letters(decided)[0].original, letters(decided)[0].source_topic) == (None, "requests.batch")


def test_a_forgotten_id_may_be_used_again() -> None:
    desk = Desk(tuning=Tuning(id_window_s=60))
    desk.hello()
    desk.submit("r-1")
    desk.complete(desk.leased("r-1"))
    desk.tick(61)
    assert events(desk.submit("r-1"))[0].state is State.QUEUED


def test_an_open_request_keeps_its_id_beyond_the_window() -> None:
    desk = Desk(tuning=Tuning(id_window_s=60))
    desk.submit("r-1")
    desk.tick(1000)
    assert letters(desk.submit("r-1"))[0].reason.code is ReasonCode.DUPLICATE_ID


def test_a_full_lane_refuses_and_says_when_to_come_back(desk: Desk) -> None:
    bounds = {Lane.HIGH: 2.0, Lane.NORMAL: 100.0, Lane.LOW: 100.0}
    desk.control(default_policy().model_copy(update={"lane_bound_s": bounds}))
    for number in range(2):
        desk.submit(f"r-{number}", tier=Tier.PRO)
    (event,) = events(desk.submit("r-2", tier=Tier.PRO))
    assert (event.state, event.reason.code) == (State.REFUSED, ReasonCode.OVERLOADED)
    assert event.reason.retry_after_s >= 1
    assert events(desk.submit("r-3", tier=Tier.FREE))[0].state is State.QUEUED


def test_a_request_larger_than_its_lane_is_taken_when_the_lane_is_empty(desk: Desk) -> None:
    desk.control(default_policy().model_copy(update={"lane_bound_s": dict.fromkeys(Lane, 0.5)}))
    assert events(desk.submit("r-1"))[0].state is State.QUEUED


def test_a_scenario_fills_in_what_the_request_leaves_out(desk: Desk) -> None:
    desk.control(Scenario(at=START, name="badge", model="emoji", prompt_template="a badge of {prompt}", steps=8, guidance=3.0))
    desk.hello()
    desk.submit("r-1", scenario="badge", prompt="a fox", steps=2)
    (task,) = desk.leased("r-1").tasks
    assert (task.prompt, task.steps, task.guidance, task.width) == ("a badge of a fox", 2, 3.0, 32)


class TestBeforeTheControlTopicIsRead:
    def test_a_request_waits_for_its_model(self) -> None:
        desk = Desk(routed=False)
        desk.hello()
        assert not events(desk.submit("r-1"))
        assert desk.scheduler.busy
        desk.control(route())
        assert desk.states("r-1") == [State.QUEUED, State.PROCESSING]

    def test_it_is_refused_once_the_topic_must_have_been_read(self) -> None:
        desk = Desk(routed=False, tuning=Tuning(control_grace_s=5))
        desk.submit("r-1", model="emoji")
        desk.tick(4.9)
        assert desk.states("r-1") == []
        decided = desk.tick(0.2)
        assert events(decided)[0].reason.code is ReasonCode.UNKNOWN_MODEL
        assert letters(decided)[0].original_bytes() == request("r-1", model="emoji").to_json()
        assert not desk.scheduler.busy

    def test_its_id_may_be_sent_again_after_the_refusal(self) -> None:
        desk = Desk(routed=False)
        desk.submit("r-1")
        desk.tick(6)
        desk.control(route())
        assert events(desk.submit("r-1"))[0].state is State.QUEUED

    def test_it_can_be_cancelled_and_can_expire(self) -> None:
        desk = Desk(routed=False)
        desk.submit("r-1")
        desk.submit("r-2", deadline_at=START + 1)
        desk.cancel("r-1")
        desk.tick(2)
        assert (desk.ends("r-1"), desk.ends("r-2")) == ([State.CANCELLED], [State.EXPIRED])


class TestCancel:
    def test_a_queued_request_is_cancelled_at_once(self, desk: Desk) -> None:
        desk.submit("r-1")
        desk.cancel("r-1")
        assert desk.ends("r-1") == [State.CANCELLED]
        assert desk.scheduler.depth(Lane.NORMAL) == 0

    def test_a_rendering_request_is_revoked_from_its_worker(self, desk: Desk) -> None:
        desk.hello(max_batch=2)
        desk.submit("r-1")
        decided = desk.cancel("r-1")
        (revoke,) = revokes(decided)
        assert (revoke.lease_id, revoke.request_ids) == (desk.leased("r-1").lease_id, ("r-1",))
        desk.complete(desk.leased("r-1"))
        assert desk.ends("r-1") == [State.CANCELLED]

    def test_only_the_owner_may(self, desk: Desk) -> None:
        desk.submit("r-1", tenant="acme")
        decided = desk.cancel("r-1", tenant="curious")
        assert letters(decided)[0].reason.code is ReasonCode.ID_TAKEN
        assert "acme" not in letters(decided)[0].reason.message
        assert desk.scheduler.depth(Lane.NORMAL) == 1

    def test_one_that_overtakes_its_request_waits_for_it(self, desk: Desk) -> None:
        desk.cancel("r-1")
        desk.submit("r-1")
        assert desk.states("r-1") == [State.QUEUED, State.CANCELLED]

    def test_it_waits_only_for_a_while(self, desk: Desk) -> None:
        desk.cancel("r-1")
        assert desk.scheduler.busy
        desk.tick(100)
        assert not desk.scheduler.busy
        desk.submit("r-1")
        assert desk.states("r-1") == [State.QUEUED]

    def test_it_waits_no_longer_where_the_clock_was_set_back(self, desk: Desk) -> None:
        desk.tick(86_400)
        desk.tick(-86_400)
        desk.cancel("r-1")
        desk.tick(100)
        assert not desk.scheduler.busy

    def test_of_too_many_that_wait_the_oldest_is_forgotten(self) -> None:
        desk = Desk(tuning=Tuning(max_early_cancels=2))
        for name in ("r-2", "r-1", "r-3"):
            desk.cancel(name)
            desk.tick(1)
        desk.restart()
        desk.cancel("r-4")
        for name in ("r-1", "r-2", "r-3", "r-4"):
            desk.submit(name)
        assert [desk.states(name)[-1] for name in ("r-1", "r-2", "r-3", "r-4")] == [State.QUEUED] * 2 + [State.CANCELLED] * 2

    def test_an_old_one_read_again_from_the_topic_does_nothing(self, desk: Desk) -> None:
        desk.cancel("r-1", at=START - 3600)
        desk.submit("r-1")
        assert desk.states("r-1") == [State.QUEUED]

    def test_what_is_over_stays_over(self, desk: Desk) -> None:
        desk.hello()
        desk.submit("r-1")
        desk.complete(desk.leased("r-1"))
        assert desk.cancel("r-1") == []

    def test_between_attempts(self, desk: Desk) -> None:
        desk.hello()
        desk.submit("r-1")
        desk.fail(desk.leased("r-1"))
        desk.cancel("r-1")
        desk.tick(60)
        assert desk.ends("r-1") == [State.CANCELLED]


class TestExpiry:
    def test_a_queued_request_expires_at_its_deadline(self, desk: Desk) -> None:
        desk.submit("r-1", deadline_at=START + 10)
        desk.tick(9)
        assert desk.ends("r-1") == []
        desk.tick(1)
        assert desk.ends("r-1") == [State.EXPIRED]
        assert desk.last("r-1").reason.code is ReasonCode.DEADLINE_PASSED

    def test_one_that_renders_may_still_come_late(self, desk: Desk) -> None:
        desk.hello()
        desk.submit("r-1", deadline_at=START + 10)
        desk.tick(11)
        desk.complete(desk.leased("r-1"))
        assert desk.ends("r-1") == [State.COMPLETED]

    def test_one_whose_attempt_fails_after_its_deadline_is_not_tried_again(self, desk: Desk) -> None:
        desk.hello()
        desk.submit("r-1", deadline_at=START + 10)
        desk.tick(11)
        desk.fail(desk.leased("r-1"))
        assert desk.ends("r-1") == [State.EXPIRED]
        assert not desk.scheduler.busy

    def test_no_worker_gets_a_request_whose_deadline_passed_between_two_ticks(self, desk: Desk) -> None:
        desk.submit("r-1", deadline_at=START + 1)
        desk.now += 2
        desk.hello()
        assert desk.ends("r-1") == [State.EXPIRED]
