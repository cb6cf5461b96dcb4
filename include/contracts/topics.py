"""The topics: names, partitions, retention. :func:`topic` puts the installation's prefix before a name."""

from __future__ import annotations

from dataclasses import dataclass, field

REALTIME = "requests.realtime"
BATCH = "requests.batch"
WORKERS = "workers"
EVENTS = "events"
CONTROL = "control"
DEAD_LETTERS = "dead-letters"
RATINGS = "ratings"

DAY_MS = 24 * 3600 * 1000


def dispatch(pool: str) -> str:
    return f"dispatch.{pool}"


@dataclass(frozen=True, kw_only=True)
class Topic:
    name: str  #: without prefix
    partitions: int = 1
    config: dict[str, str] = field(default_factory=dict)
    producer: str = ""
    consumer: str = ""


#: One partition where order across requests matters (workers, control, dispatch); more where it does not.
TOPICS = (
    Topic(name=REALTIME, partitions=2, producer="producers, gateway", consumer="router"),
    Topic(name=BATCH, partitions=2, producer="producers, gateway", consumer="router"),
    Topic(name=WORKERS, producer="workers", consumer="router", config={"retention.ms": str(DAY_MS)}),
    Topic(name=EVENTS, producer="router", consumer="everyone", config={"retention.ms": str(7 * DAY_MS)}),
    Topic(name=CONTROL, producer="registry watcher, gateway, people", consumer="router, workers", config={"cleanup.policy": "compact"}),
    Topic(name=DEAD_LETTERS, producer="router", consumer="people", config={"retention.ms": str(30 * DAY_MS)}),
    Topic(name=RATINGS, producer="products", consumer="feedback archive", config={"retention.ms": str(30 * DAY_MS)}),
)


def dispatch_topic(pool: str) -> Topic:
    return Topic(name=dispatch(pool), producer="router", consumer=f"workers of {pool}", config={"retention.ms": str(DAY_MS)})


def topics_for(pools: tuple[str, ...]) -> tuple[Topic, ...]:
    return (*TOPICS, *(dispatch_topic(pool) for pool in pools))
