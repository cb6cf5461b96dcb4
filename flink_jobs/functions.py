"""Flink functions of the router: state, timers and metrics around :class:`include.routing.router.Router`. Every decision is made there."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pyflink.common import Row, Types
from pyflink.datastream import KeyedCoProcessFunction, MapFunction, RuntimeContext, TimerService
from pyflink.datastream.state import MapState, MapStateDescriptor

from flink_jobs import gate
from flink_jobs.metrics import SchedulerMetrics
from flink_jobs.poison import SUSPECTS
from flink_jobs.precedence import take_precedence
from flink_jobs.rows import join, untag
from include.contracts import topics
from include.contracts.requests import ServiceClass
from include.routing.router import Outgoing, Router
from include.scheduling.scheduler import Scheduler
from include.scheduling.store import StateStore, Table

TICK_MS = 100

#: How long a batch request is held at a closed gate, in seconds: at first, doubling up to the most while the gate stays closed.
FIRST_PATIENCE_S, MOST_PATIENCE_S = 0.25, 1.0

#: A letter before each text says where it came from.
REALTIME, BATCH, WORKER, CONTROL = "r", "b", "w", "c"

_SERVICE_CLASS = {REALTIME: ServiceClass.REALTIME, BATCH: ServiceClass.BATCH}
_TOPIC = {REALTIME: topics.REALTIME, BATCH: topics.BATCH, WORKER: topics.WORKERS, CONTROL: topics.CONTROL}


def _spare_the_collector() -> None:
    """A full collection walks all that is loaded and holds up all routing for some tens of milliseconds; what is here now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@dataclass(frozen=True, kw_only=True)
class RouterOptions:
    """What the job was submitted with; the TaskManager's own environment may differ."""

    topic_prefix: str
    cell: str
    pools: tuple[str, ...]
    default_model: str
    lease_s: float
    max_attempts: int

    @property
    def gate(self) -> str:
        """The name of this cell's gate for batch requests in the TaskManager's process."""
        return f"{self.topic_prefix}{self.cell}"


class FlinkStore(StateStore):
    """The scheduler's tables as keyed map states, checkpointed with the offsets of the topics."""

    def __init__(self, context: RuntimeContext) -> None:
        self._tables: dict[Table, MapState] = {
            table: context.get_map_state(MapStateDescriptor(table.value, Types.STRING(), Types.STRING())) for table in Table
        }

    def put(self, table: Table, key: str, value: str) -> None:
        self._tables[table].put(key, value)

    def remove(self, table: Table, key: str) -> None:
        self._tables[table].remove(key)

    def items(self, table: Table) -> Iterable[tuple[str, str]]:
        return list(self._tables[table].items())


class PaceBatch(MapFunction):
    """Holds batch requests while the scheduler has no room for them, so that Flink stops the source once the buffers before it are full.

    It must be a task of its own: held inside the source's task it would look busy, and no flow control of Flink's would be at work.
    A task that holds a request neither takes a checkpoint barrier nor ends, so each request is held for a bounded time and then let
    through: at a gate that never opens, one a second more than the scheduler asked for. It takes them all the same.
    """

    def __init__(self, options: RouterOptions) -> None:
        self._options = options

    def open(self, runtime_context: RuntimeContext) -> None:
        self._patience_s = FIRST_PATIENCE_S
        self._overflow = runtime_context.get_metrics_group().counter("overflow")

    def map(self, value: Row) -> Row:
        scheduler = gate.gate_of(self._options.gate)
        if scheduler is None or scheduler.passes(self._patience_s):
            self._patience_s = FIRST_PATIENCE_S
        else:
            self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
            self._overflow.inc()
        return value


class ScheduleRequests(KeyedCoProcessFunction):
    """First input: tagged requests. Second: tagged workers' and control messages. Output: rows of full topic name and message.

    All of one cell is one key, so one instance sees everything the cell's scheduler has to weigh, in one thread. The scheduler's
    indexes live in memory and are rebuilt from the state with the first element after a start.
    """

    def __init__(self, options: RouterOptions) -> None:
        self._options = options

    def open(self, runtime_context: RuntimeContext) -> None:
        options = self._options
        self._scheduler = Scheduler(
            cell=options.cell,
            pools=frozenset(options.pools),
            store=FlinkStore(runtime_context),
            default_model=options.default_model,
            lease_s=options.lease_s,
            max_attempts=options.max_attempts,
        )
        self._router = Router(self._scheduler)
        self._next_tick = 0
        self._metrics = SchedulerMetrics(runtime_context, self._scheduler)
        self._gate = gate.establish(options.gate)
        _spare_the_collector()
        take_precedence()

    def close(self) -> None:
        gate.retire(self._options.gate, self._gate)

    def process_element1(self, value: str, ctx: KeyedCoProcessFunction.Context) -> tuple[str, ...]:
        return self._take(value, ctx)

    def process_element2(self, value: str, ctx: KeyedCoProcessFunction.Context) -> tuple[str, ...]:
        return self._take(value, ctx)

    def _take(self, value: str, ctx: KeyedCoProcessFunction.Context) -> tuple[str, ...]:
        letter, text = untag(value)
        if letter == BATCH:
            self._gate.arrived()
        now = time.time()
        try:
            decided = self._send(self._decide(value, letter, text, now))
        except Exception:
            SUSPECTS.failed(value)
            raise
        self._conclude(now, ctx.timer_service())
        return decided

    def _decide(self, value: str, letter: str, text: str | None, now: float) -> Iterable[Outgoing]:
        router = self._router
        if SUSPECTS and SUSPECTS.is_poison(value):
            return router.set_aside(text, _TOPIC[letter], now)
        if letter == WORKER:
            return router.worker(text, now)
        if letter == CONTROL:
            return router.control(text, now)
        return router.request(text, _SERVICE_CLASS[letter], now)

    def on_timer(self, timestamp: int, ctx: KeyedCoProcessFunction.OnTimerContext) -> tuple[str, ...]:
        now = time.time()
        decided = self._send(self._router.tick(now))
        self._conclude(now, ctx.timer_service())
        return decided

    def _send(self, outgoing: Iterable[Outgoing]) -> tuple[str, ...]:
        """One text of all that was decided, for each step out of Python costs as much as the decision."""
        prefix = self._options.topic_prefix
        text = join((prefix + topic, message) for topic, message in outgoing)
        return (text,) if text else ()

    def _conclude(self, now: float, timers: TimerService) -> None:
        """One timer ahead while time alone can move something on; with nothing to time there is none."""
        self._gate.publish(self._scheduler.batch_open())
        self._metrics.update(now)
        now_ms = int(now * 1000)
        if self._scheduler.busy and self._next_tick <= now_ms:
            self._next_tick = (now_ms // TICK_MS + 1) * TICK_MS
            timers.register_processing_time_timer(self._next_tick)
