"""Sixty requests of every kind: sent, followed to their ends, judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console, RenderableType

from include.client.reader import Start, TopicReader
from include.config import Settings
from include.contracts import topics
from include.contracts.control import Scenario
from include.demo.bad_requests import bad_requests
from include.demo.good_requests import good_requests
from include.demo.judging import Verdict, is_settled, judge_all
from include.demo.live import plain_line, shown, traffic_view
from include.demo.observer import Observer, Seen
from include.demo.options import DemoOptions
from include.demo.planned import Planned, Way
from include.demo.sending import Outbox, Sender
from include.gateway.control_view import ControlView
from include.storage import open_store

SEND_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Traffic:
    verdicts: list[Verdict]
    outbox: Outbox
    seconds: float

    @property
    def ok(self) -> bool:
        return all(verdict.ok for verdict in self.verdicts)

    def good(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.planned.good]

    def bad(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.planned.good]


def plan_traffic(options: DemoOptions, scenario: str | None) -> list[Planned]:
    """Bad ones between the good ones; those that repeat an id come after the request whose id they repeat."""
    first = good_requests(options.run, 1, scenario)[0]
    bad = bad_requests(options.run, first)
    good = good_requests(options.run, max(1, options.requests - len(bad)), scenario)
    every = max(1, len(good) // len(bad))
    mixed: list[Planned] = []
    for number, planned in enumerate(good):
        mixed.append(planned)
        if number % every == every - 1 and bad:
            mixed.append(bad.pop(0))
    return mixed + bad


def offered_scenario(settings: Settings) -> str | None:
    """The first scenario that the control topic offers for the default model."""
    view = ControlView()
    with TopicReader(settings, topics.CONTROL, Start.BEGINNING) as reader:
        while records := reader.poll_batch(500, 1.0):
            view.handle(reader.cluster_id, records)
    fitting: Sequence[Scenario] = [scenario for scenario in view.scenarios() if scenario.model == settings.model_name]
    return fitting[0].name if fitting else None


def run_traffic(settings: Settings, options: DemoOptions, observer: Observer, sender: Sender, console: Console) -> Traffic:
    plan, outbox, started = plan_traffic(options, offered_scenario(settings)), Outbox(), time.monotonic()
    ids = frozenset(planned.request_id for planned in plan if planned.request_id)
    with ThreadPoolExecutor(1, thread_name_prefix="demo-sender") as pool:
        sending = pool.submit(sender.send_all, plan, outbox, SEND_EVERY_S)

        def headline() -> str:
            return f"{time.monotonic() - started:5.1f} s   sent {len(outbox.sent_at)} of {len(plan)}"

        def view() -> RenderableType:
            return observer.ask(lambda seen: traffic_view(seen, ids, headline()))

        with shown(console, view, lambda: observer.ask(lambda seen: plain_line(seen, ids, headline()))):
            _await_end(plan, outbox, observer, sending, options.traffic_timeout_s)
        sending.result()
    verdicts = observer.ask(lambda seen: judge_all(plan, outbox, seen, open_store(settings)))
    return Traffic(verdicts=verdicts, outbox=outbox, seconds=time.monotonic() - started)


def _await_end(plan: Sequence[Planned], outbox: Outbox, observer: Observer, sending: Future[None], timeout_s: float) -> None:
    """Until each request is settled, the sender has failed, or the time is over; who is not settled then is judged as it is."""

    def settled(seen: Seen) -> bool:
        if not sending.done():
            return False
        return sending.exception() is not None or all(
            is_settled(planned, outbox.replies.get(number), seen) for number, planned in enumerate(plan)
        )

    deadline = time.monotonic() + timeout_s
    while not observer.wait(settled, 1.0) and time.monotonic() < deadline:
        continue


def check_gateway_images(traffic: Traffic, sender: Sender) -> list[str]:
    """Faults of the images as the gateway hands them out to their tenants."""
    faults = []
    for verdict in traffic.good():
        if verdict.planned.way is not Way.GATEWAY or not verdict.ok:
            continue
        for index, data in enumerate(verdict.images):
            reply = sender.image(verdict.planned, index)
            if reply.content != data:
                faults.append(
                    f"{verdict.planned.request_id}: image {index} by the gateway: HTTP {reply.status_code}, other bytes than stored"
                )
    return faults
