"""The Flink job and the scheduler as the simulator drives it, fed the same inputs at the same times, say the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from flink_jobs.route_requests import options_of
from include.contracts import topics as names
from include.contracts.defaults import default_policy
from include.contracts.events import Lane
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import MemoryStore
from include.simulation.replay import BATCH, CONTROL, REALTIME, TICK, WORKER, Recorded, replay
from tests.integration.router.conftest import RouterJob, request, route
from tests.integration.router.stub_worker import completion
from tests.support.kafka_client import TopicReader, send
from tests.support.waiting import wait_for

TOPIC = {REALTIME: names.REALTIME, BATCH: names.BATCH, WORKER: names.WORKERS, CONTROL: names.CONTROL}
TIERS = ("free", "pro", "enterprise")

Event = dict[str, Any]


class Recorder:
    """Sends one input after the other, each when the last one's effect was seen, and keeps each with the time at which the job took it."""

    def __init__(self, router: RouterJob, dispatches: TopicReader) -> None:
        self.router = router
        self.dispatches = dispatches
        self.inputs: list[Recorded] = [(0.0, CONTROL, route())]
        self.answered: set[str] = set()

    def events(self) -> list[Event]:
        return [json.loads(value or b"{}") for value in self.router.events.poll(0.05)]

    def leases(self) -> list[Event]:
        return [json.loads(value or b"{}") for value in self.dispatches.poll(0.05)]

    def put(self, letter: str, text: str, seen: Callable[[Event], bool] | None = None) -> None:
        """Without ``seen`` the input is one that says nothing; it is taken as of just before the next."""
        known = len(self.router.events.values)
        send(self.router.settings, TOPIC[letter], text, key=json.loads(text).get("kind", "policy") if letter == CONTROL else None)
        at = None if seen is None else self.wait(lambda event: seen(event), known)["at"]
        self.inputs.append((at if at is not None else 0.0, letter, text))

    def settle(self, letter: str) -> None:
        """Until the job has read all that was put on a topic: it answers a message that it can't read with a dead letter."""
        known = len(self.router.letters())
        self.put(letter, "{}")
        wait_for(lambda: len(self.router.letters()) > known, 30, f"the job to read {TOPIC[letter]}", interval=0)

    def wait(self, wanted: Callable[[Event], bool], after: int = 0) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events()[after:] if wanted(event)), None)

        return wait_for(found, 30, "an event", interval=0)

    def say(self, worker_id: str, kind: str, **fields: Any) -> str:
        identity = {
            "worker_id": worker_id,
            "incarnation": "i-1",
            "cell": self.router.settings.cell,
            "pool": self.router.settings.worker_pool,
        }
        return json.dumps({"kind": kind, **identity, "at": time.time(), **fields})

    def submit(self, number: int) -> None:
        letter = BATCH if number % 3 == 2 else REALTIME
        asked = request(f"r-{number}", tenant=f"t{number % 4}", tier=TIERS[number % 3], steps=(8, 12)[number % 2])
        self.put(letter, json.dumps(asked), lambda event: event.get("request_id") == f"r-{number}")

    def steer(self, *messages: str) -> None:
        """Control messages that take effect before whatever comes next."""
        for message in messages:
            self.put(CONTROL, message)
        self.settle(CONTROL)

    def cancel_last(self) -> None:
        """The newest of the requests that wait."""
        last = {event["request_id"]: event for event in self.events() if "request_id" in event}
        name, event = [(name, event) for name, event in last.items() if event["state"] == "Queued"][-1]
        message = {"kind": "cancel", "request_id": name, "tenant": event["tenant"], "at": time.time()}
        self.put(CONTROL, json.dumps(message), lambda event: event.get("request_id") == name and event["state"] == "Cancelled")

    def answer(self, *, fails: bool = False) -> None:
        """The oldest lease that was not answered yet: its first request fails, or all complete."""
        lease = wait_for(lambda: next((one for one in self.leases() if one["lease_id"] not in self.answered), None), 30, "a lease")
        self.answered.add(lease["lease_id"])
        if fails:
            reason = {"code": "render_failed", "message": "the pipeline raised"}
            text = self.say(lease["worker_id"], "failed", lease_id=lease["lease_id"], reason=reason)
            first = lease["tasks"][0]["request_id"]
            self.put(WORKER, text, lambda event: event.get("request_id") == first and event["state"] == "Retrying")
            self.inputs.append(
                (
                    self.wait(lambda event: event.get("request_id") == first and event.get("attempt") == 1 and event["state"] == "Queued")[
                        "at"
                    ],
                    TICK,
                    None,
                )
            )
            return
        for task in lease["tasks"]:
            done = completion(lease, task)
            text = self.say(lease["worker_id"], done.pop("kind"), **done)
            self.put(WORKER, text, lambda event, name=task["request_id"]: event.get("request_id") == name and event["state"] == "Completed")

    def recorded(self) -> list[Recorded]:
        """Inputs that said nothing get a time just before that of the next."""
        timed, following = [], float("inf")
        for at, letter, text in reversed(self.inputs):
            following = at or following - 1e-4
            timed.append((following, letter, text))
        return timed[::-1]


@pytest.fixture
def recorder(router: RouterJob) -> Iterator[Recorder]:
    topic = names.dispatch(router.settings.worker_pool)
    with closing(TopicReader(router.settings, topic)) as dispatches:
        yield Recorder(router, dispatches)


def policy(high: float = 0.9, normal: float = 1.2, **changes: Any) -> str:
    """By default bounds so small that requests are degraded and refused, floors as shipped, and no share that moves by itself."""
    changes |= {"lane_bound_s": {Lane.HIGH: high, Lane.NORMAL: normal, Lane.LOW: 1e6}, "lane_objective_s": dict.fromkeys(Lane, 1e6)}
    return default_policy(lease_s=600.0).model_copy(update={"at": time.time(), **changes}).to_json().decode()


def second_version() -> str:
    """Version 2 in service, in the place of version 1."""
    first = json.loads(route())
    return route(champion={**first["champion"], "version": "2"}, previous=first["champion"])


def comparable(message: Event) -> Event:
    """Estimates, of the wait and of when to come back, depend on how often the clock ticked meanwhile."""
    reason = message.get("reason")
    code = reason["code"] if isinstance(reason, dict) else reason
    return {**{key: value for key, value in message.items() if key != "estimate"}, "reason": code}


def first_difference(said: list[Event], replayed: list[Event]) -> str | None:
    """Where two accounts part, in words that fit on a screen."""
    for number, (one, other) in enumerate(zip(said, replayed, strict=False)):
        keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
        if keys:
            return f"{number} {one.get('event_id')} / {other.get('event_id')}: {[(key, one.get(key), other.get(key)) for key in keys]}"
    return None


def play(recorder: Recorder) -> None:
    """A full lane, a failure, a cancellation; then another model version and another policy while requests wait."""
    recorder.steer(policy())
    for worker_id in ("w-0", "w-1"):
        recorder.put(WORKER, recorder.say(worker_id, "hello", slots=1, max_batch=2))
    recorder.settle(WORKER)
    for number in range(24):
        recorder.submit(number)
    recorder.answer(fails=True)
    for _ in range(2):
        recorder.answer()
    recorder.cancel_last()
    recorder.steer(second_version())
    other = policy(high=100.0, normal=100.0, ladder=(), lane_floor=dict.fromkeys(Lane, 0.3))
    recorder.put(CONTROL, other, lambda event: event.get("kind") == "shares")
    for number in range(24, 32):
        recorder.submit(number)
    for _ in range(5):
        recorder.answer()


def test_the_job_decides_as_the_replay_does(recorder: Recorder, router: RouterJob) -> None:
    play(recorder)
    said, leased = recorder.events(), recorder.leases()
    options = options_of(router.settings, ())
    scheduler = Scheduler(
        cell=options.cell,
        pools=frozenset(options.pools),
        store=MemoryStore(),
        default_model=options.default_model,
        lease_s=options.lease_s,
        max_attempts=options.max_attempts,
    )
    outgoing = replay(recorder.recorded(), scheduler)
    replayed = [json.loads(text) for topic, text in outgoing if topic == names.EVENTS]
    assert first_difference([comparable(event) for event in said], [comparable(event) for event in replayed]) is None
    assert len(replayed) - len(said) <= 2  # the last input's later events may still be on their way
    given = [json.loads(text) for topic, text in outgoing if topic.startswith("dispatch")]
    assert first_difference(leased, given) is None and len(leased) >= 5
    outcomes = {event["trace"].get("outcome") for event in said if event.get("state") == "Queued"}
    assert {"admitted", "admitted_degraded"} <= outcomes
    assert {"Queued", "Processing", "Retrying", "Refused", "Cancelled", "Completed"} <= {event.get("state") for event in said}
    assert [event["reason"] for event in said if event.get("kind") == "shares"] == ["the policy sets other shares"]
    assert {lease["model"]["version"] for lease in leased} == {"1", "2"}
    assert {len(lease["tasks"]) for lease in leased} == {1, 2}
    assert {"high", "normal"} <= {lease["lane"] for lease in leased}
