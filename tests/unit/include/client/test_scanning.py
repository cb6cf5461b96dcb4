"""Ids are found without parsing, and a scan ends even where the broker only complains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from include.client.errors import BrokerUnavailableError
from include.client.scanning import TopicScan, request_id_of
from include.config import Settings
from include.contracts.errors import Reason, ReasonCode
from tests.unit.include.client.stories import letter


@pytest.mark.parametrize("value", [None, b"", b"{}", b'{"request_id":null}', b'{"request_id":"a b"}'])
def test_no_id_is_found_where_there_is_none(value: bytes | None) -> None:
    assert request_id_of(value) is None


def test_an_id_quoted_in_a_message_is_not_taken_for_the_id() -> None:
    reason = Reason(code=ReasonCode.INVALID_FIELD, message='"request_id":"decoy"')
    assert request_id_of(letter(reason).to_json()) == "r1"


class Complaining:
    """A consumer that is told of five messages and gets nothing but errors that may pass."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.closed = False

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions={0: None})})

    def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
        return 0, 5

    def assign(self, partitions: list[Any]) -> None:
        pass

    def consume(self, count: int, timeout: float) -> list[Any]:
        error = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION, "no leader", retriable=True)
        return [SimpleNamespace(error=lambda: error, partition=lambda: 0, offset=lambda: -1)]

    def close(self) -> None:
        self.closed = True


def test_a_broker_that_only_complains_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.client.scanning.Consumer", Complaining)
    with pytest.raises(BrokerUnavailableError, match=r"no answer from .* for 0.05 s"):
        list(TopicScan(Settings(_env_file=None), "events", patience_s=0.05))
