"""A burst of five times what the workers can do: sent, shown, followed to the end of each request."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isclose

from rich.console import Console

from include.client.policy import read_control
from include.client.producer import Delivery
from include.config import Settings
from include.contracts import topics
from include.contracts.control import ModelDefaults, ModelRoute, Policy
from include.contracts.dead_letters import DeadLetter
from include.contracts.events import SharesEvent
from include.demo.burst_fates import Fate, fates_of, held_back
from include.demo.burst_gauge import Gauge
from include.demo.burst_plan import BurstSize, Capacity, plan_burst
from include.demo.burst_policy import policy_for_burst
from include.demo.burst_view import BurstNow, burst_line, burst_view
from include.demo.live import shown
from include.demo.observer import Observer, Seen
from include.demo.router_offsets import RouterOffsets
from include.demo.sending import Sender
from include.demo.steps import StepFailedError

#: How long after the last was sent all of them must be over.
DRAIN_TIMEOUT_S = 150.0


@dataclass(frozen=True, kw_only=True)
class Burst:
    capacity: Capacity
    policy: Policy  #: that held meanwhile
    started_at: float  #: seconds since 1970
    sending_s: float  #: how long the sending was to take
    seconds: float  #: until the last was over
    fates: list[Fate]
    moves: list[SharesEvent] = field(default_factory=list)
    letters: dict[str, list[DeadLetter]] = field(default_factory=dict)  #: by request
    peak_held_back: int = 0  #: batch requests before the scheduler at once, at most
    peak_lag: int | None = None  #: of these in Kafka; None where the broker did not say


def run_burst(settings: Settings, size: BurstSize, observer: Observer, sender: Sender, console: Console) -> Burst:
    """Under a policy of its own, which is taken back whatever happens. Raises :class:`StepFailedError` and what sending raises."""
    with policy_for_burst(settings, size.capacity) as policy, RouterOffsets(settings, topics.BATCH) as offsets:
        act = _Act(size, policy, observer, sender)
        gauge = Gauge(offsets, lambda: held_back(act.fates()))
        with gauge, shown(console, lambda: burst_view(act.now(gauge)), lambda: burst_line(act.now(gauge))):
            act.play(size.seconds + DRAIN_TIMEOUT_S)
        return act.finished(gauge)


def default_route(settings: Settings) -> ModelDefaults:
    """What the default model can do, as the control topic says. Raises :class:`StepFailedError`."""
    routes = read_control(settings, ModelRoute).values()
    found = next((route for route in routes if route.name == settings.model_name and route.champion is not None), None)
    if found is None:
        raise StepFailedError(f"nobody serves {settings.model_name}; see `atelier logs registry-watcher`")
    return found.defaults


class _Act:
    """The burst while it runs; one thread sends, others look."""

    def __init__(self, size: BurstSize, policy: Policy, observer: Observer, sender: Sender) -> None:
        self._size = size
        self._plan = plan_burst(size)
        self._policy = policy
        self._observer = observer
        self._sender = sender
        self._sent_at: dict[str, float] = {}
        self._stopped = threading.Event()
        self._moves_before = observer.ask(lambda seen: len(seen.shares))
        self._started_at = time.time()

    def play(self, timeout_s: float) -> None:
        """Until each request is over or the time is; what is not over then is judged as it is."""
        self._started_at = time.time()
        with ThreadPoolExecutor(1, thread_name_prefix="demo-burst") as pool:
            sending = pool.submit(self._send)
            try:
                self._await_end(sending, timeout_s)
            finally:
                self._stopped.set()
        sending.result()

    def fates(self) -> list[Fate]:
        return self._observer.ask(lambda seen: fates_of(self._plan, self._sent_at, seen, self._size.capacity.defaults.steps))

    def now(self, gauge: Gauge) -> BurstNow:
        workers = self._observer.ask(lambda seen: list(seen.workers.values()))
        return BurstNow(
            fates=self.fates(),
            planned=len(self._plan),
            seconds=time.time() - self._started_at,
            base_shares=self._policy.lane_floor,
            moves=self._moves(),
            workers=workers,
            lag=gauge.lag,
        )

    def finished(self, gauge: Gauge) -> Burst:
        fates = self.fates()
        ends = [fate.newest.at for fate in fates if fate.newest is not None]
        return Burst(
            capacity=self._size.capacity,
            policy=self._policy,
            started_at=self._started_at,
            sending_s=self._size.seconds,
            seconds=max(ends, default=self._started_at) - self._started_at,
            fates=fates,
            moves=self._moves(),
            letters=self._letters(),
            peak_held_back=gauge.peak_held_back,
            peak_lag=gauge.peak_lag,
        )

    def _send(self) -> None:
        """Each at its time, however slow the answers are."""
        deliveries: list[Future[Delivery]] = []
        for request in self._plan:
            if self._stopped.wait(max(0.0, self._started_at + request.at_s - time.time())):
                return
            self._sent_at[request.id] = time.time()
            deliveries.append(self._sender.post(request.planned))
        for delivery in deliveries:
            delivery.result(60)

    def _await_end(self, sending: Future[None], timeout_s: float) -> None:
        def over(seen: Seen) -> bool:
            return sending.done() and (sending.exception() is not None or all(seen.terminal(request.id) for request in self._plan))

        deadline = time.monotonic() + timeout_s
        while not self._observer.wait(over, 1.0) and time.monotonic() < deadline:
            continue

    def _moves(self) -> list[SharesEvent]:
        """Those under the burst's policy. They keep the sum of the shares; the one that set them did not."""
        total = sum(self._policy.lane_floor.values())
        moves = self._observer.ask(lambda seen: list(seen.shares[self._moves_before :]))
        return [move for move in moves if isclose(sum(move.before.values()), total)]

    def _letters(self) -> dict[str, list[DeadLetter]]:
        ours = {request.id for request in self._plan}
        letters = self._observer.ask(lambda seen: [letter for letter in seen.dead_letters if letter.request_id in ours])
        return {
            name: [letter for letter in letters if letter.request_id == name] for name in {letter.request_id or "" for letter in letters}
        }
