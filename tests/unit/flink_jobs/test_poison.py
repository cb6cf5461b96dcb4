from __future__ import annotations

from flink_jobs.poison import MOST_FAILURES, MOST_MESSAGES, Suspects


def test_a_message_is_poison_once_the_scheduler_failed_on_it_as_often_as_allowed() -> None:
    suspects = Suspects()
    for _ in range(MOST_FAILURES):
        assert not suspects.is_poison("r.{}")
        suspects.failed("r.{}")
    assert suspects.is_poison("r.{}")
    assert not suspects.is_poison("b.{}")


def test_lone_surrogates_are_remembered_too() -> None:
    suspects = Suspects()
    suspects.failed("\ud800")
    assert len(suspects) == 1


def test_it_remembers_a_bounded_number() -> None:
    suspects = Suspects()
    for number in range(3 * MOST_MESSAGES):
        suspects.failed(str(number))
    assert len(suspects) <= MOST_MESSAGES
