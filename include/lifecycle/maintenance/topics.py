"""Kafka deletes events by each topic's own retention; this shows it, and sets it where it is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from include.contracts.topics import DAY_MS, EVENTS, Topic, topics_for
from include.lifecycle.maintenance.context import Context
from include.lifecycle.maintenance.items import Item, Keeper
from include.platform.kafka import existing_topics, full_name

RETENTION = "retention.ms"
TIMEOUT_S = 10.0


class TopicKeeper(Keeper):
    """Topics by name, without prefix. "Goes" means that the retention is set; the broker then deletes what is older."""

    kind = "topic"

    def __init__(self, context: Context) -> None:
        self.context = context
        # The client logs each refused connection itself; the caller reports the outcome.
        self.admin = AdminClient({"bootstrap.servers": context.settings.bootstrap, "log_level": 0})

    def items(self) -> Iterator[Item]:
        there = existing_topics(self.context.settings)
        for topic in topics_for(self.context.settings.pools):
            if full_name(self.context.settings, topic) in there:
                yield self._judged(topic)

    def item(self, name: str) -> Item | None:
        return next((item for item in self.items() if item.name == name), None)

    def remove(self, item: Item) -> None:
        topic = next(topic for topic in topics_for(self.context.settings.pools) if topic.name == item.name)
        entry = ConfigEntry(RETENTION, self._wanted(topic), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, full_name(self.context.settings, topic), incremental_configs=[entry])
        _answer(self.admin.incremental_alter_configs([resource]))

    def _judged(self, topic: Topic) -> Item:
        actual, wanted = self._actual(topic), self._wanted(topic)
        if topic.config.get("cleanup.policy") == "compact":
            goes, why = False, "compacted: the newest message of each key stays"
        elif wanted is None or actual == wanted:
            goes, why = False, f"keeps {_days(actual)}"
        else:
            goes, why = True, f"keeps {_days(actual)}, is set to {_days(wanted)}"
        return Item(kind=self.kind, name=topic.name, bytes=0, age_s=0.0, goes=goes, why=why)

    def _wanted(self, topic: Topic) -> str | None:
        """Milliseconds; None leaves it to the broker."""
        days = self.context.limits.event_days
        return str(round(days * DAY_MS)) if topic.name == EVENTS and days is not None else topic.config.get(RETENTION)

    def _actual(self, topic: Topic) -> str:
        found = _answer(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, full_name(self.context.settings, topic))]))
        return str(found[RETENTION].value)


def _answer(futures: dict[Any, Any]) -> Any:
    return next(iter(futures.values())).result(TIMEOUT_S)


def _days(milliseconds: str) -> str:
    return "for ever" if milliseconds == "-1" else f"{int(milliseconds) / DAY_MS:g} days"
