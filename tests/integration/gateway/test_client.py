"""The Python client on a real broker."""

from __future__ import annotations

import uuid

import pytest

from include.client.errors import BrokerUnavailableError, DeliveryError
from include.client.producer import RequestProducer, TopicProducer
from include.client.reader import EventReader, Start, TopicReader
from include.config import Settings
from include.contracts import topics as topic_names
from include.contracts.events import State, StatusEvent, event_id
from include.contracts.requests import GenerationRequest, ServiceClass
from include.platform.ports import free_ports


def event(request_id: str, state: State, at: float = 1.0) -> StatusEvent:
    return StatusEvent(event_id=event_id(request_id, state, 0), request_id=request_id, tenant="acme", state=state, at=at)


@pytest.mark.parametrize(
    ("service_class", "topic"), [(ServiceClass.REALTIME, topic_names.REALTIME), (ServiceClass.BATCH, topic_names.BATCH)]
)
def test_a_request_arrives_on_the_topic_of_its_class(topics: Settings, service_class: ServiceClass, topic: str) -> None:
    request = GenerationRequest(request_id="r1", tenant="acme", prompt="red apple")
    with RequestProducer(topics) as producer, TopicReader(topics, topic, Start.BEGINNING) as reader:
        delivery = producer.send(request, service_class)
        record = reader.poll(10)
    assert record is not None and record.value is not None
    assert GenerationRequest.from_json(record.value) == request
    assert (delivery.topic, delivery.partition, delivery.offset) == (topics.topic_prefix + topic, record.partition, record.offset)


@pytest.mark.parametrize("value", [None, b"\xff\xfe\x00", b"x" * 1_100_000])
def test_raw_bytes_arrive_unchanged(topics: Settings, value: bytes | None) -> None:
    with RequestProducer(topics) as producer, TopicReader(topics, topic_names.REALTIME, Start.BEGINNING) as reader:
        producer.send_bytes(value)
        record = reader.poll(10)
    assert record is not None and record.value == value


def test_an_unreachable_broker_fails_the_delivery(topics: Settings) -> None:
    nowhere = topics.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_ports(1)[0]}"})
    with RequestProducer(nowhere, delivery_timeout_s=0.5) as producer, pytest.raises(DeliveryError, match=r"requests\.realtime"):
        producer.send(GenerationRequest(request_id="r1", tenant="acme", prompt="red apple"))
    with pytest.raises(BrokerUnavailableError, match=r"can't be read from 127\.0\.0\.1"):
        EventReader(nowhere)


def test_a_missing_topic_is_named(topics: Settings) -> None:
    prefix = f"missing-{uuid.uuid4().hex[:6]}."
    with pytest.raises(BrokerUnavailableError, match=f"{prefix}events"):
        EventReader(topics.model_copy(update={"topic_prefix": prefix}))


def test_a_reader_sees_what_follows_its_making_and_each_event_once(topics: Settings) -> None:
    with TopicProducer(topics) as producer:
        producer.put(topic_names.EVENTS, event("old", State.COMPLETED).to_json())
        with EventReader(topics) as reader:
            for message in (event("new", State.QUEUED), event("new", State.QUEUED), event("new", State.COMPLETED)):
                producer.put(topic_names.EVENTS, message.to_json())
            seen: list[StatusEvent] = []
            ended = reader.wait_for_terminal(["new"], 20, seen.append)
    assert [found.state for found in seen] == [State.QUEUED, State.COMPLETED]
    assert ended["new"].state is State.COMPLETED


def test_from_the_beginning_the_old_events_are_seen_and_those_missing_are_named(topics: Settings) -> None:
    with TopicProducer(topics) as producer:
        producer.put(topic_names.EVENTS, b"not an event")
        producer.put(topic_names.EVENTS, event("old", State.FAILED).to_json())
    with EventReader(topics, from_beginning=True) as reader, pytest.raises(TimeoutError, match="never-sent"):
        reader.wait_for_terminal(["old", "never-sent"], 1.5)


def test_given_offsets_are_gone_on_from(topics: Settings) -> None:
    with TopicProducer(topics) as producer:
        for number in range(3):
            producer.put(topic_names.EVENTS, str(number).encode())
    with TopicReader(topics, topic_names.EVENTS, Start.BEGINNING, offsets=lambda cluster_id: {0: 2}) as reader:
        assert reader.ends() == {0: 3}
        record = reader.poll(10)
        assert record is not None and record.value == b"2"
        assert reader.poll(0.3) is None
        assert reader.cluster_id
