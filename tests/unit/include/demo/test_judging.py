from __future__ import annotations

import pytest

from include.contracts.dead_letters import encode_original
from include.contracts.errors import Reason, ReasonCode
from include.contracts.events import State
from include.demo.judging import is_settled, judge_all, judge_bad, judge_good
from include.demo.observer import Seen
from include.demo.planned import Planned, Way
from include.demo.sending import Outbox, Reply
from include.storage import ObjectStore
from tests.unit.include.demo.conftest import completed, dead_letter, event_of, perfect_seen


def good_one(plan: list[Planned]) -> Planned:
    return next(planned for planned in plan if planned.good)


def bad_one(plan: list[Planned], label: str) -> Planned:
    return next(planned for planned in plan if planned.label == label)


def test_all_well(plan: list[Planned], store: ObjectStore) -> None:
    seen, outbox = perfect_seen(plan, store)
    verdicts = judge_all(plan, outbox, seen, store)
    assert [verdict.planned.label for verdict in verdicts if not verdict.ok] == []
    assert all(is_settled(planned, outbox.replies.get(number), seen) for number, planned in enumerate(plan))


def test_silence_is_a_loss(plan: list[Planned], store: ObjectStore) -> None:
    verdicts = judge_all(plan, Outbox(), Seen(), store)
    assert not any(verdict.ok for verdict in verdicts)
    assert {verdict.outcome for verdict in verdicts} == {"lost"}


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED, State.PROCESSING])
def test_a_good_request_must_complete(plan: list[Planned], store: ObjectStore, state: State) -> None:
    planned, seen = good_one(plan), Seen()
    seen.events[planned.request_id or ""].append(event_of(planned, state))
    verdict = judge_good(planned, seen, store)
    assert (verdict.ok, verdict.outcome) == (False, state)


def test_an_image_that_is_missing_changed_or_broken_is_a_fault(plan: list[Planned], store: ObjectStore) -> None:
    planned = good_one(plan)
    event = completed(planned, store)
    image = event.images[0]

    def faults_of(data: bytes | None, **changes: object) -> str:
        store.delete(image.key)
        if data is not None:
            stored = store.put_if_absent(image.key, data, "image/png")
            changes.setdefault("sha256", stored.sha256)
        seen = Seen()
        seen.events[planned.request_id or ""].append(event.model_copy(update={"images": (image.model_copy(update=changes),)}))
        verdict = judge_good(planned, seen, store)
        assert not verdict.ok
        return verdict.detail

    data = store.get(image.key)
    assert image.key in faults_of(None)
    assert "digest" in faults_of(data + b"x", sha256=image.sha256)
    assert "does not decode" in faults_of(b"no picture at all")
    assert "does not decode" in faults_of(data[: len(data) // 2])
    assert "64x64" in faults_of(data, width=128)


def test_fewer_images_than_asked_for_are_a_fault(plan: list[Planned], store: ObjectStore) -> None:
    planned = next(planned for planned in plan if planned.fields.get("images") == 2)
    event, seen = completed(planned, store), Seen()
    seen.events[planned.request_id or ""].append(event.model_copy(update={"images": event.images[:1]}))
    assert "1 images instead of 2" in judge_good(planned, seen, store).detail


def test_a_bad_one_that_completes_is_a_fault(plan: list[Planned], store: ObjectStore) -> None:
    planned, seen = bad_one(plan, "-1 steps"), Seen()
    seen.events[planned.request_id or ""].append(completed(planned, store))
    verdict = judge_bad(planned, None, seen)
    assert (verdict.ok, verdict.outcome) == (False, "Completed")


def test_a_wrong_reason_is_a_fault(plan: list[Planned]) -> None:
    planned, seen = bad_one(plan, "not JSON"), Seen()
    wrong = Reason(code=ReasonCode.OVERLOADED, message="busy")
    seen.dead_letters.append(dead_letter(planned).model_copy(update={"reason": wrong}))
    assert not judge_bad(planned, None, seen).ok


def test_changed_bytes_in_the_dead_letter_are_a_fault(plan: list[Planned]) -> None:
    planned, seen = bad_one(plan, "invalid UTF-8"), Seen()
    assert planned.value is not None
    changed = planned.value.decode("utf-8", "replace").encode()
    seen.dead_letters.append(dead_letter(planned).model_copy(update={"original": encode_original(changed)}))
    verdict = judge_bad(planned, None, seen)
    assert (verdict.ok, verdict.outcome) == (False, "lost")


def test_a_refused_event_without_the_dead_letter_is_not_enough(plan: list[Planned]) -> None:
    planned, seen = bad_one(plan, "a size of 7"), Seen()
    reason = Reason(code=ReasonCode.INVALID_FIELD, message="width")
    seen.events[planned.request_id or ""].append(event_of(planned, State.REFUSED, reason=reason))
    assert not judge_bad(planned, None, seen).ok
    assert not is_settled(planned, None, seen)


def test_the_gateways_answer_counts(plan: list[Planned]) -> None:
    planned = next(planned for planned in plan if planned.way is Way.GATEWAY and planned.label.startswith("-1"))
    assert judge_bad(planned, Reply(status=422, code="invalid_field"), Seen()).ok
    assert not judge_bad(planned, Reply(status=503, code="unavailable"), Seen()).ok
    assert is_settled(planned, Reply(status=422, code="invalid_field"), Seen())
    assert not is_settled(planned, Reply(status=202), Seen())
