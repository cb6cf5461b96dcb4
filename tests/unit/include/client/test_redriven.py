"""Which letters were sent is remembered; what a crash leaves harms nothing; one redrive runs at a time."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from include.client.dead_letters import Action, Found, Redrive
from include.client.errors import DeliveryError
from include.client.producer import Delivery
from include.client.redriven import AT_ONCE, RedriveBusyError, RedriveLog, send
from include.config import Settings
from include.contracts.dead_letters import DeadLetter
from include.contracts.errors import Reason, ReasonCode


def redrive(name: str, sent_as: str | None = None, source: str = "requests.realtime") -> Redrive:
    reason = Reason(code=ReasonCode.OVERLOADED, message="full")
    letter = DeadLetter(source_topic=source, at=1.0, reason=reason, request_id=name, tenant="acme")
    return Redrive(
        found=Found(letter=letter, key=f"key of {name}", size=2), action=Action.SEND, note="", request_id=sent_as or name, value=b"{}"
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home")


@pytest.fixture
def log(settings: Settings) -> RedriveLog:
    return RedriveLog(settings)


def test_what_was_sent_is_remembered(log: RedriveLog, settings: Settings) -> None:
    assert log.sent() == {}
    with log:
        log.add(redrive("r1", "r1-r1"))
        log.sync()
        assert log.sent() == {"key of r1": "r1-r1"}
    assert RedriveLog(settings).sent() == {"key of r1": "r1-r1"}


def test_looking_creates_nothing(log: RedriveLog) -> None:
    assert log.sent() == {}
    assert not log.path.parent.exists()


def test_a_line_that_a_crash_cut_off_harms_nothing(log: RedriveLog) -> None:
    with log:
        log.add(redrive("r1"))
    with log.path.open("a") as file:
        file.write('{"letter": "abc", "sent')
    with log:
        log.add(redrive("r2"))
    assert log.sent() == {"key of r1": "r1", "key of r2": "r2"}


@pytest.mark.parametrize("line", ["[]", "null", "{}", '{"letter": "a"}', "x", ""])
def test_foreign_lines_are_skipped(log: RedriveLog, line: str) -> None:
    log.path.parent.mkdir()
    log.path.write_text(f"{line}\n")
    assert log.sent() == {}


def test_one_redrive_at_a_time(log: RedriveLog, settings: Settings) -> None:
    with log, pytest.raises(RedriveBusyError, match="under way"), RedriveLog(settings):
        raise AssertionError("two redrives ran")
    with RedriveLog(settings) as next_one:
        next_one.add(redrive("r1"))
    assert log.sent() == {"key of r1": "r1"}


class Posting:
    """Acknowledges at once what it isn't told to fail."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.posted: list[tuple[str, bytes | None, str | None]] = []

    def post(self, topic: str, value: bytes | None, key: str | None = None) -> Future[Delivery]:
        future: Future[Delivery] = Future()
        if key == self.failing:
            future.set_exception(DeliveryError("the broker is away"))
        else:
            self.posted.append((topic, value, key))
            future.set_result(Delivery(topic=topic, partition=0, offset=len(self.posted)))
        return future


def test_each_goes_to_its_own_topic_under_its_id(log: RedriveLog) -> None:
    producer = Posting()
    with log:
        outcome = send([redrive("r1"), redrive("r2", "r2-r1", "requests.batch")], producer, log)
    assert producer.posted == [("requests.realtime", b"{}", "r1"), ("requests.batch", b"{}", "r2-r1")]
    assert [one.request_id for one in outcome.sent] == ["r1", "r2-r1"]


def test_what_was_not_acknowledged_is_not_remembered(log: RedriveLog) -> None:
    names = [f"r{number}" for number in range(AT_ONCE + 5)]
    with log:
        outcome = send([redrive(name) for name in names], Posting(failing="r3"), log)
    assert [(one.request_id, said) for one, said in outcome.failed] == [("r3", "the broker is away")]
    assert set(log.sent().values()) == set(names) - {"r3"}
