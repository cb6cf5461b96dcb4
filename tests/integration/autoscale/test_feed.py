"""What the controller learns from real topics: at a start, after a restart, and after the broker was away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from include.autoscale.feed import Feed
from include.autoscale.sizing import PoolNow, Snapshot
from include.client.errors import BrokerUnavailableError
from include.config import Settings
from include.contracts import topics as names
from include.contracts.base import Message
from include.contracts.defaults import default_policy
from include.contracts.events import Lane, State
from include.platform.kafka import create_topics, kafka_service
from tests.support.kafka_client import send
from tests.support.services import free_settings, running
from tests.unit.include.autoscale.builders import credit, event, queued

pytestmark = pytest.mark.timeout(240)


def tell(settings: Settings, *messages: Message, topic: str = names.EVENTS, key: str | None = None) -> None:
    send(settings, topic, *(message.to_json() for message in messages), key=key)


def look(feed: Feed) -> Snapshot:
    feed.catch_up()
    return feed.tracker.snapshot(time.time(), {"std": PoolNow(running=2)}, feed.objectives)


def waiting(found: Snapshot) -> dict[Lane, float]:
    return {one.lane: one.waiting_s for one in found.demands if one.waiting_s}


def test_demand_workers_and_objectives_are_read_and_read_again_by_another(topics: Settings) -> None:
    now = time.time()
    tell(topics, queued("a", 2.0, at=now), queued("b", 3.0, at=now, lane=Lane.LOW), queued("c", 4.0, at=now))
    tell(topics, event(State.CANCELLED, "c", at=now))
    tell(topics, credit("w-0", at=now, held=("lease-1",), utilisation=0.5), topic=names.WORKERS)
    policy = default_policy(lease_s=30.0, max_attempts=3)
    objectives = {**policy.lane_objective_s, Lane.HIGH: 1.5}
    tell(topics, policy.model_copy(update={"lane_objective_s": objectives}), topic=names.CONTROL, key=policy.key)
    send(topics, names.WORKERS, b"no message", None)
    send(topics, names.EVENTS, b"{}")

    first = Feed(topics, 600.0)
    found = look(first)
    assert waiting(found) == {Lane.HIGH: 2.0, Lane.LOW: 3.0}
    assert found.objectives == objectives
    assert (found.pools["std"].running, found.pools["std"].busy, found.pools["std"].starting) == (1, 1, 1)

    tell(topics, event(State.PROCESSING, "a", attempt=1, pool="std", at=now + 1.0))
    assert waiting(look(first)) == {Lane.LOW: 3.0}
    first.close()
    again = Feed(topics, 600.0)
    assert waiting(look(again)) == {Lane.LOW: 3.0}
    again.close()


def test_a_look_at_quiet_topics_takes_no_time(topics: Settings) -> None:
    tell(topics, queued("a", 2.0, at=time.time()))
    feed = Feed(topics, 600.0)
    look(feed)
    began = time.monotonic()
    for _ in range(5):
        look(feed)
    feed.close()
    assert time.monotonic() - began < 4.0, "a wait for messages that don't come would take a second each time and topic"


def test_nothing_is_seen_without_a_broker_and_everything_once_it_is_back(tmp_path: Path) -> None:
    settings = free_settings(tmp_path / "home")
    with running(settings, kafka_service(settings)) as (broker,):
        create_topics(settings)
        tell(settings, queued("a", 2.0, at=time.time()))
        feed = Feed(settings, 600.0)
        assert waiting(look(feed)) == {Lane.HIGH: 2.0}
        broker.kill()
        for _ in range(2):
            with pytest.raises(BrokerUnavailableError):
                feed.catch_up()
        broker.restart()
        tell(settings, queued("b", 3.0, at=time.time()))
        assert waiting(look(feed)) == {Lane.HIGH: 5.0}
        feed.close()
